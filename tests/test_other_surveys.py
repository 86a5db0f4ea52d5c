"""Files of other surveys than SDSS, alone and beside others: who is read, under which name, and why not."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from fuzz import SURVEYS, fuzz_survey
from made import write_columns, write_sdssv, write_spec

from specanom.anomalies import links
from specanom.desi import DESI_GRID, join_arms, on_lattice_of_sdss, read_desi
from specanom.grid import B23_GRID, SDSS_GRID
from specanom.lines import measure_lines, measured_subclass, on_lattice, sdss_subclass
from specanom.mock import mock_survey
from specanom.objects import object_name
from specanom.pipeline import about_other_surveys, is_of_another_survey
from specanom.preprocess import preprocess
from specanom.restframe import rebin
from specanom.surveys import READERS, arms_meet, iter_spectra, read_spectra, readers
from specanom.viewer import object_facts
from specanom.write import write_desi, write_lamost


@pytest.fixture(scope='module')
def galaxies():
    return mock_survey(60, rng=11)


def test_all_readers_are_met():
    "Those of later rooms are fetched by name, and say what they read."
    known = readers()
    assert {'sdss', 'arrays', 'lamost', 'desi'} <= set(known) == set(READERS)
    assert all(reader.read.__doc__ for reader in known.values())


def test_desi_from_files_to_the_rest_frame(tmp_path, galaxies):
    "TARGETID is the name, tile, petal and fibre are there, and the spectra are the same."
    write_desi(galaxies, tmp_path)
    raw = read_spectra(tmp_path)
    row = raw.catalog[5]
    assert row['file'] == 'coadd-4-80613-thru20210324.fits#0006'
    assert (row['plate'], row['petal'], row['fiberid']) == (80613, 4, 2005)
    assert row['specobjid'] == 39627 * 10**12 + 80613004005 and row['survey'] == 'desi'
    assert raw.rejected['reason'].tolist() == ['fibre status 2: STUCKPOSITIONER'] * 3
    data = preprocess(raw)
    assert sum('sky fibre: SKY' == r for r in data.rejected['reason']) == 3
    rows = np.array([int(f[-4:]) - 1 for f in data.catalog['file']])
    ours = preprocess(galaxies, mask='none')
    both = np.intersect1d(
        galaxies.catalog['specobjid'][rows], ours.catalog['specobjid']
    )
    one = ours[np.isin(ours.catalog['specobjid'], both)]
    other = data[np.isin(galaxies.catalog['specobjid'][rows], both)]
    pull = ((one.flux - other.flux) * np.sqrt(one.ivar))[one.good & other.good]
    assert len(both) > 0.9 * len(ours) and np.median(np.abs(pull)) < 0.5


def test_arms_are_weighted_by_their_variances():
    flux = [np.full((1, 10), x, 'f4') for x in (1, 4)]
    ivar = [np.full((1, 10), x, 'f4') for x in (2, 1)]
    ivar[1][0, 0] = 0
    arms = [(slice(i, i + 10), f, v) for i, f, v in zip((0, 5), flux, ivar)]
    joined, weight = join_arms(arms, 1)
    assert joined[0, :15].tolist() == [1] * 6 + [2] * 4 + [4] * 5
    assert weight[0, :16].tolist() == [2] * 6 + [3] * 4 + [1] * 5 + [0]


def test_desi_without_redshifts_and_elsewhere(tmp_path, galaxies):
    "One reason for the file; redshifts in another folder are found when they are one."
    coadd, redrock = write_desi(galaxies[:5], tmp_path / 'a')
    (tmp_path / 'z').mkdir()
    redrock = redrock.rename(tmp_path / 'z' / redrock.name)
    alone = read_spectra(coadd)
    assert len(alone) == 0 and 'no redrock-4-80613' in alone.rejected['reason'][0]
    assert len(read_spectra(tmp_path)) == 5


def test_desi_row_by_row(tmp_path, galaxies):
    "A bad fibre costs itself: a NaN, a negative ivar, a target without a redshift."
    coadd, redrock = write_desi(galaxies[:6], tmp_path)
    with fits.open(coadd, 'update') as hdus:
        hdus['R_FLUX'].data[0, 700] = np.nan
        hdus['Z_IVAR'].data[1, 3] = -1
        hdus['B_MASK'].data[2] = 1
        hdus['FIBERMAP'].data['TARGETID'][3] = 0
    with fits.open(redrock, 'update') as hdus:
        hdus['REDSHIFTS'].data['TARGETID'][4] += 500
    raw = read_spectra(tmp_path)
    assert [f[-4:] for f in raw.catalog['file']] == ['0003', '0006']
    assert not raw.good[0, :2000].any() and raw.good[0, 3000:4000].all()
    why = dict(zip((n[-4:] for n in raw.rejected['name']), raw.rejected['reason']))
    assert why['0001'].startswith('flux is not a number in 1 pixels')
    assert why['0002'] == 'ivar is negative in 1 pixels'
    assert why['0004'] == 'its TARGETID is 0' and 'is not in redrock' in why['0005']


def test_exposures_of_a_target_are_joined(tmp_path, galaxies):
    "A spectra file has a row for each exposure."
    coadd, redrock = write_desi(galaxies[:4], tmp_path)
    with fits.open(coadd, 'update') as hdus:
        targets = hdus['FIBERMAP'].data['TARGETID']
        targets[2] = targets[0]
        hdus['FIBERMAP'].columns['COADD_FIBERSTATUS'].name = 'FIBERSTATUS'
    one = read_desi(coadd)
    assert (
        len(one) == 3
        and one.catalog['specobjid'].tolist() == targets[[0, 1, 3]].tolist()
    )
    parts = read_desi(write_desi(galaxies[:4], tmp_path / 'b')[0])
    np.testing.assert_allclose(one.ivar[0], parts.ivar[0] + parts.ivar[2], rtol=1e-6)


def test_surveys_side_by_side(tmp_path, galaxies):
    "One folder of all: those on one lattice are one set, and each has its own grid."
    write_desi(galaxies[:6], tmp_path / 'desi')
    write_lamost(galaxies[:6], tmp_path / 'lamost')
    write_lamost(galaxies[6:9], tmp_path / 'lamost', layout='image')
    write_sdssv(tmp_path / 'sdss' / 'spec-015000-59146-4375786564.fits')
    write_spec(tmp_path / 'sdss' / 'spec-7102-56666-0914.fits')
    sets = [s for s in iter_spectra(tmp_path) if len(s)]
    assert {s.grid for s in sets} == {SDSS_GRID, DESI_GRID}
    with pytest.raises(ValueError, match='on 2 grids'):
        read_spectra(tmp_path)
    both = read_spectra([tmp_path / 'lamost', tmp_path / 'sdss'])
    surveys = both.catalog['survey'].tolist()
    assert sorted(set(surveys)) == ['', 'lamost', 'sdssv']
    assert not both.catalog.has_masked_columns and len(both) == 11
    of = both.catalog[both.catalog['survey'] == 'sdssv']
    assert (of['plate'][0], of['fiberid'][0]) == (15000, 217)
    assert of['catalogid'][0] == 4375786564 and of['specobjid'][0] > 0


def test_links_are_the_surveys_own(tmp_path, galaxies):
    "Nobody but SDSS is sent to SkyServer, nobody without a place to a place."
    write_desi(galaxies[:3], tmp_path)
    write_lamost(galaxies[:3], tmp_path)
    for spectra in iter_spectra(tmp_path):
        pages = links(spectra.catalog)
        assert set(pages['skyserver']) == {''} and all(pages['legacy'])
    pages = links(read_spectra(tmp_path / 'coadd-4-80613-thru20210324.fits').catalog)
    assert pages['desi'][0].endswith('/dr1/targetid39627080613004000')
    mine = read_spectra(write_columns(galaxies[:2], tmp_path / 'mine')[0])
    assert all(set(page) == {''} for page in links(mine.catalog).values())


def test_columns_of_files(tmp_path, galaxies):
    "Whatever holds them, the same columns are the same spectra."
    sets = [read_spectra(path) for path in write_columns(galaxies[:4], tmp_path)]
    for other in sets[1:]:
        np.testing.assert_allclose(other.flux, sets[0].flux, rtol=1e-6)
        assert other.catalog['specobjid'].tolist() == [1, 2, 3, 4]
    Table(dict(name=['flux'], z=[0.1])).write(tmp_path / 'list.ecsv')
    (tmp_path / 'broken.npz').write_bytes(b'PK nothing')
    found = list(iter_spectra(tmp_path))
    names = [n for s in found for n in s.rejected['name']]
    assert 'broken.npz' in names and 'list.ecsv' not in names


def test_objects_have_their_surveys_names(tmp_path, galaxies):
    "And the arms of each spectrograph meet where they do."
    write_desi(galaxies[:2], tmp_path)
    write_lamost(galaxies[:1], tmp_path)
    sets = list(iter_spectra(tmp_path))
    names = [object_name(s.catalog)[0] for s in sets]
    assert sorted(names) == ['DESI 39627080613004000', 'spec-51602-M0266_sp11-001.fits']
    assert object_name(galaxies.catalog)[0] == '0266-51602-0001'
    desi = next(s for s in sets if s.catalog['survey'][0] == 'desi')
    one = object_facts(desi, desi.catalog['z',])[0]  # as a file of prospect has it
    assert one['desi']['TARGETID'] == '39627080613004000'
    assert (one['desi']['TILEID'], one['desi']['NIGHT']) == ('80613', '20210324')
    assert arms_meet(['sdss', 'desi', '']).tolist() == [6000, 5780, 6000]


def test_p_values_of_a_survey_that_was_not_seen():
    "Withheld, and the command says so; a survey that does not say its name is the run's own."
    ours = dict(survey=np.array(['sdss', '']), plate=np.array([266, 7102]))
    seen = SimpleNamespace(catalog=ours)
    run = SimpleNamespace(config=SimpleNamespace(source='files'), spectra=seen)
    table = dict(survey=np.array(['eboss', 'desi', '', 'lamost']), plate=np.zeros(4))
    assert is_of_another_survey(table, run).tolist() == [False, True, False, True]
    assert 'desi, lamost: their p-values are withheld' in about_other_surveys(
        table, run
    )
    run.config.source = 'mock'
    assert about_other_surveys(table, run) == ''


def test_measured_subclasses(galaxies):
    "They are those of the mock survey for most galaxies whose lines are seen."
    theirs = np.asarray(galaxies.catalog['subclass'])
    ours = sdss_subclass(measure_lines(galaxies))
    forming = np.char.find(theirs, 'STAR') >= 0
    assert (np.char.find(ours, 'STAR') >= 0)[forming].mean() > 0.7


def test_subclasses_of_desi_by_a_shorter_way(tmp_path, galaxies):
    "One sparse product for all makes of DESI's pixels what box by box is made of them."
    write_desi(galaxies, tmp_path)
    raw = read_spectra(tmp_path)
    raw.ivar[3, 1000:1100] = 0
    short, plain = on_lattice_of_sdss(raw), on_lattice(raw)
    np.testing.assert_allclose(short.ivar, plain.ivar, rtol=1e-5)
    pull = (short.flux - plain.flux) * np.sqrt(plain.ivar)
    assert np.abs(pull).max() < 1e-3
    assert raw.catalog['subclass'].tolist() == measured_subclass(raw).tolist()


def test_rebinning_is_no_loop(tmp_path, galaxies):
    "What a plain loop over bins and pixels makes, and many times as fast as that."
    write_desi(galaxies, tmp_path)
    raw = read_spectra(tmp_path)
    z, edges = np.asarray(raw.catalog['z']), B23_GRID.edges
    start = time.process_time()
    flux, _ = rebin(raw.flux, raw.ivar, raw.wave, z, edges)
    ours = (time.process_time() - start) / len(raw)
    start = time.process_time()
    plain = mean_by_mean(raw.flux[0], raw.ivar[0], DESI_GRID.edges, edges * (1 + z[0]))
    theirs = time.process_time() - start
    np.testing.assert_allclose(flux[0], plain, rtol=1e-4, atol=1e-4)
    assert theirs > 10 * ours  # 70 times, measured


def mean_by_mean(flux, ivar, edges, bins):
    "The mean of the pixels in each bin, counted by the width that they share with it."
    means = np.zeros(len(bins) - 1)
    for i, (low, high) in enumerate(zip(bins, bins[1:])):
        light = width = 0.0
        first, last = np.searchsorted(edges, (low, high))
        for k in range(max(first - 1, 0), min(last, len(flux))):
            shared = min(high, edges[k + 1]) - max(low, edges[k])
            if shared > 0 and ivar[k] > 0:
                light, width = light + shared * flux[k], width + shared
        means[i] = light / width if width else 0
    return means


@pytest.mark.parametrize('survey', SURVEYS)
def test_damaged_files(tmp_path, survey):
    count, lost = fuzz_survey(survey, 12, 3, tmp_path)
    assert not lost and count['tried'] == 12
