"""Real SDSS files, where there are any: SPECANOM_SDSS=FOLDER make test. Elsewhere these tests are skipped."""

import os
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL

FOLDER = os.environ.get('SPECANOM_SDSS', '')
needs_folder = pytest.mark.skipif(
    not FOLDER, reason='SPECANOM_SDSS does not name a folder of SDSS spectra'
)
BESIDE = (
    Path(__file__).resolve().parents[1].parent / 'shared/sdss-spectra'
)  # looked at when it is there
HALF_FLAGGED = (
    '0665-52168-0284',
    '2485-54176-0188',
    '2770-54510-0433',
    '2973-54591-0190',
)  # MANYBADCOLUMNS on one arm


def half_flagged_files() -> list[Path]:
    "The four good galaxies of which B23's rule masks one arm, where somebody has them."
    for folder in ([Path(FOLDER)] if FOLDER else []) + [BESIDE]:
        found = sorted(
            p for name in HALF_FLAGGED for p in folder.rglob(f'spec-{name}.fits')
        )
        if len(found) == len(HALF_FLAGGED):
            return found
    return []


def test_flags_of_a_whole_arm_cost_no_spectrum():
    "By default the flags of single pixels mask, and four real galaxies stay; B23 masks any flag and loses them, and the reason says why."
    from specanom.objects import spec_name
    from specanom.surveys import read_spectra
    from specanom.preprocess import preprocess

    files = half_flagged_files()
    if not files:
        pytest.skip('the four spectra are not here')
    raw = read_spectra(files)
    kept, lost = preprocess(raw), preprocess(raw, mask='b23')
    assert sorted(spec_name(kept.catalog)) == sorted(HALF_FLAGGED)
    assert kept.catalog['masked_fraction'].max() < 0.3
    assert len(lost) == 0
    assert all(
        r.startswith('masked fraction not below 0.4: 0.')
        and '(bits MANYBADCOLUMNS' in r
        for r in lost.rejected['reason']
    )


@needs_folder
def test_reader_agrees_with_astropy():
    "Flux, ivar, bits and catalogue of every spec file, bit for bit."
    from astropy.io import fits
    from specanom.grid import SDSS_K
    from specanom.surveys import read_spectra

    spectra = read_spectra(FOLDER, jobs=2)
    assert len(spectra) > 0
    for i, row in enumerate(spectra.catalog):
        if not Path(row['file']).name.startswith('spec-'):
            continue
        with fits.open(Path(FOLDER) / row['file']) as hdus:
            data, theirs = hdus[1].data, hdus[2].data[0]
            k = np.round(data['loglam'].astype(float) * 1e4).astype(int) - SDSS_K[0]
            np.testing.assert_array_equal(spectra.ivar[i, k], data['ivar'])
            np.testing.assert_array_equal(
                spectra.flux[i, k], np.where(data['ivar'] > 0, data['flux'], 0)
            )
            np.testing.assert_array_equal(
                spectra.mask[i, k], data['and_mask'].astype('u4')
            )
            assert (spectra.ivar[i] > 0).sum() == (data['ivar'] > 0).sum()
            assert int(row['specobjid']) == int(theirs['SPECOBJID']) % 2**64
            assert (row['z'], row['class'], row['subclass'], row['zwarning']) == (
                theirs['Z'],
                theirs['CLASS'],
                theirs['SUBCLASS'],
                theirs['ZWARNING'],
            )


@needs_folder
def test_every_file_is_scored_or_rejected(tmp_path):
    "The whole chain on real files with a small model: nothing vanishes, every score is a number."
    from specanom.config import load_config
    from specanom.files import read_table
    from specanom.pipeline import run
    from specanom.surveys import find_spectra

    run(load_config('tiny', **SMALL), tmp_path / 'mock')
    scored = run(
        load_config(source=FOLDER, threads=1),
        tmp_path / 'real',
        model=tmp_path / 'mock',
    )
    scores, rejected = scored.scores, read_table(tmp_path / 'real/rejected.ecsv')
    files, root = find_spectra(FOLDER)
    assert sorted([*scores['file'], *rejected['name']]) == sorted(
        f.relative_to(root).as_posix() for f in files
    )
    assert np.isfinite(scores['logp']).all() and np.isfinite(scores['re']).all()
    assert all(rejected['reason'])
