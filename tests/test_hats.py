"""A catalogue in partitions of the sky, scored by the command and written back; LSDB reads it where it is installed."""

import numpy as np
import pytest
from conftest import SMALL, once

from specanom.cli import main
from specanom.config import load_config
from specanom.files import read_table
from specanom.mock import mock_survey
from specanom.pipeline import run

pyarrow = pytest.importorskip('pyarrow')
parquet = pytest.importorskip('pyarrow.parquet')

PIXELS = {4: slice(0, 9), 7: slice(9, 12), 11: slice(12, 13)}  # of order 1: rows
IDS = 39627640566453000 + np.arange(13)


@pytest.fixture(scope='module')
def folder():
    "A finished run, made once for all tests."
    return once('run', lambda folder: run(load_config('tiny', **SMALL), folder))


@pytest.fixture
def sky(tmp_path):
    "Thirteen galaxies in three partitions, each spectrum one value of a nested column; the last one is too far away."
    raw = mock_survey(13, rng=21)
    z = np.clip(raw.catalog['z'], 0.06, 0.35)
    z[12] = 2.5
    for pixel, some in PIXELS.items():
        path = tmp_path / f'sky/dataset/Norder=1/Dir=0/Npix={pixel}.parquet'
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = dict(flux=raw.flux[some], ivar=raw.ivar[some])
        parts['lambda'] = [raw.wave] * len(parts['flux'])
        spectrum = pyarrow.StructArray.from_arrays(
            [pyarrow.array(list(x)) for x in parts.values()], list(parts)
        )
        columns = dict(TARGETID=IDS[some], Z=z[some], spectrum=spectrum)
        columns['_healpix_29'] = pixel * 4**28 + np.arange(len(spectrum))
        parquet.write_table(pyarrow.table(columns), path)
    said = 'obs_collection=sky\ndataproduct_type=object\nhats_nrows=13\n'
    (tmp_path / 'sky/hats.properties').write_text(said)
    return tmp_path / 'sky'


def test_a_catalogue_is_scored(sky, folder, tmp_path, capsys):
    "Rows, identifiers and order are the catalogue's; a partition alone has the same scores; what has none says why."
    out = tmp_path / 'scores'
    assert main(['score', str(sky), '--model', str(folder), '--out', str(out)]) == 0
    assert '12 rows have scores, 1 were set aside' in capsys.readouterr().out
    table = parquet.read_table(out / 'dataset', partitioning=None)
    rows = table.sort_by('TARGETID').to_pydict()
    assert rows['TARGETID'] == IDS.tolist() and 'spectrum' not in rows
    assert rows['p_all'][12] is None and '< z <' in rows['set_aside'][12]
    assert set(rows['set_aside'][:12]) == {''}
    one = sky / 'dataset/Norder=1/Dir=0/Npix=7.parquet'
    table = tmp_path / 'one.parquet'
    assert main(['score', str(one), '--model', str(folder), '--out', str(table)]) == 0
    alone = read_table(table)
    place = [rows['TARGETID'].index(i) for i in alone['specobjid'].tolist()]
    assert sorted(place) == [9, 10, 11]
    together = np.array(rows['re'], float)[place]
    np.testing.assert_allclose(alone['re'], together, rtol=1e-5)
    schemas = {str(parquet.read_schema(p)) for p in out.rglob('Npix=*.parquet')}
    assert len(schemas) == 1


def test_where_scores_of_a_catalogue_go(sky, folder, tmp_path, capsys):
    "Into a new folder, which must be named."
    asked = ['score', str(sky), '--model', str(folder)]
    for more in ([], ['--out', str(tmp_path / 'scores.parquet')]):
        assert main([*asked, *more]) == 2
        assert '--out FOLDER' in capsys.readouterr().err
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full/mine').write_text('')
    assert main([*asked, '--out', str(tmp_path / 'full')]) == 2
    assert 'is not empty' in capsys.readouterr().err


def test_lsdb_reads_it(sky, folder, tmp_path):
    lsdb = pytest.importorskip('lsdb')
    out = tmp_path / 'scores'
    assert main(['score', str(sky), '--model', str(folder), '--out', str(out)]) == 0
    frame = lsdb.read_hats(out).compute()
    assert sorted(frame['TARGETID']) == IDS.tolist()
    assert np.isfinite(frame['re'].astype(float)).sum() == 12
