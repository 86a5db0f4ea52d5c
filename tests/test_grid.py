"""Any rest-frame grid by configuration alone, any observed grid by its reader."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from specanom import flux, sealed
from specanom.cli import main
from specanom.config import load_config
from specanom.grid import B23_GRID, REST_GRID, SDSS_GRID, SDSS_WAVE, Grid
from specanom.objects import hash_id
from specanom.spectra import Spectra
from specanom.surveys import READERS, add_reader
from specanom.inject import ANOMALIES, inject
from specanom.lines import measure_lines, on_lattice
from specanom.mock import mock_survey
from specanom.pipeline import STAGES, Run, run
from specanom.o25spectra import O25_GRID, preprocess_o25
from specanom.preprocess import preprocess
from specanom.reconstruction import REGIONS, error_by_region
from specanom.segments import segment
from specanom.write import write_spec

EVEN = Grid(np.arange(3810.0, 9190.0, 1.5))  # another survey's pixels, observed
OTHER = {'wave_min': 3500.0, 'wave_max': 7500.0, 'n_wave': 2000}
SMALL = {
    'threads': 1,
    'n': 640,
    'ensemble': 2,
    'autoencoder.hidden': [32],
    'autoencoder.ae1_epochs': 2,
    'autoencoder.ae2_epochs': 1,
    'flow.epochs': 2,
    'flow.members': 1,
    'anomalies.n_bins': 1,
    'anomalies.k': 1,
    'anomalies.hosts': 3,
}


def resampled(galaxies: Spectra, grid: Grid) -> Spectra:
    "The same galaxies as a survey with other pixels would keep them, without flags."
    left, way = SDSS_GRID.place(grid.wave)
    between = lambda x: x[:, left] + way.astype('f4') * (x[:, left + 1] - x[:, left])
    ivar = np.minimum(galaxies.ivar[:, left], galaxies.ivar[:, left + 1])
    return Spectra(between(galaxies.flux), ivar, grid, galaxies.catalog)


# the object


def test_grids():
    "Edges and centres, equality, hash, and what is refused."
    log, linear = Grid.log(3500, 7500, 2000), Grid.linear(3500, 7500, 2000)
    for grid in (log, linear):
        assert len(grid) == 2000 and grid.frame == 'rest' and grid.medium == 'vacuum'
        np.testing.assert_allclose(grid.edges[[0, -1]], [3500, 7500], rtol=1e-12)
        assert ((grid.edges[:-1] < grid.wave) & (grid.wave < grid.edges[1:])).all()
        again = pickle.loads(pickle.dumps(grid))
        assert again == grid and hash(again) == hash(grid)
        assert again.digest == grid.digest
    assert log.is_log and not linear.is_log and log != linear
    assert Grid(REST_GRID, 'rest') == B23_GRID != Grid(REST_GRID)
    assert Grid(SDSS_WAVE * u.AA) == SDSS_GRID
    assert repr(B23_GRID) == '1000 bins of 269.3 km/s, 3388–8318 Å, rest frame, vacuum'
    assert repr(EVEN).startswith('3587 pixels of 1.50 Å, 3809–9190 Å, observed frame')
    for wrong, said in (
        (dict(frame='lab'), "'observed' or 'rest'"),
        (dict(medium='air'), 'air_to_vacuum'),
        (dict(wave=REST_GRID[::-1]), 'must increase'),
        (dict(wave=REST_GRID / 10), 'nanometres'),
    ):
        with pytest.raises(ValueError, match=said):
            Grid(**dict(wave=REST_GRID) | wrong)


def test_spectra_carry_their_grid(tmp_path):
    "Into pieces and stores and back; sets on different grids are not joined."
    raw = mock_survey(6, rng=1)
    assert raw.grid == raw[2:4].grid == SDSS_GRID and raw.wave is raw.grid.wave
    data = replace(raw, grid=Grid(SDSS_WAVE, 'rest'), unit='')
    for name in ('set.zarr', 'set.fits'):
        data.write(tmp_path / name)
        assert Spectra.read(tmp_path / name).grid == data.grid
    with pytest.raises(ValueError, match='observed frame, vacuum, and 4900 bins'):
        Spectra.concatenate([raw, replace(data, unit=raw.unit)])
    with pytest.raises(ValueError, match='rest frame, not in .*preprocessed before'):
        preprocess(replace(data, unit=raw.unit))


@pytest.mark.parametrize('unit, frame', [(flux.FLUX_UNIT, 'observed'), ('', 'rest')])
def test_older_stores(tmp_path, monkeypatch, unit, frame):
    "A store that names no frame: raw spectra are f_lambda, what was preprocessed is not."
    seal = sealed._seal
    forgetful = lambda store, facts: seal(store, dict(list(facts.items())[:2]))
    monkeypatch.setattr(sealed, '_seal', forgetful)
    replace(mock_survey(3, rng=1), unit=unit).write(tmp_path / 'old.zarr')
    assert 'grid' not in json.loads((tmp_path / 'old.zarr/store.json').read_text())
    assert Spectra.read(tmp_path / 'old.zarr').grid == Grid(SDSS_WAVE, frame)


# other observed grids


def test_o25_on_even_steps():
    "No pixel is lost: the same galaxies give the same spectra to within their noise."
    raw = mock_survey(300, rng=2)
    other = resampled(raw, EVEN)
    ours, theirs = preprocess_o25(replace(raw, mask=None)), preprocess_o25(other)
    assert ours.grid == theirs.grid == O25_GRID
    ids = np.intersect1d(ours.catalog['specobjid'], theirs.catalog['specobjid'])
    assert len(ids) > 0.9 * len(ours)
    one, two = (s[np.isin(s.catalog['specobjid'], ids)] for s in (ours, theirs))
    both = one.good & two.good
    assert both.mean() > 0.99 * one.good.mean()
    pull = (one.flux - two.flux)[both] * np.sqrt(one.ivar[both])
    assert np.median(np.abs(pull)) < 0.5
    coarse = preprocess_o25(raw, grid=Grid.linear(3600, 7000, 500))
    assert coarse.flux.shape[1] == 500 and len(coarse) >= len(ours)


def test_lines_on_even_steps():
    "Strengths agree within their errors; a line off the pixels is NaN."
    raw = mock_survey(200, rng=4)
    ours, theirs = measure_lines(raw), measure_lines(resampled(raw, EVEN))
    for name in ('Halpha', 'OIII', 'Hbeta'):
        one, two = (np.asarray(t[f'{name}_ew']) for t in (ours, theirs))
        error = np.asarray(ours[f'{name}_ew_err'])
        assert np.nanmedian(np.abs(one - two) / error) < 0.7
        between = np.nanmedian(np.asarray(theirs[f'{name}_ew_err']) / error)
        assert 0.7 < between < 1.4
    blue = resampled(raw[:20], Grid(np.arange(3810.0, 6000.0, 1.5)))
    assert np.isnan(measure_lines(blue)['Halpha_ew']).all()
    assert on_lattice(raw) is raw


def test_injection_on_even_steps():
    "The same anomaly, seen through other pixels, for every kind."
    raw = mock_survey(30, rng=5)
    other = resampled(raw, EVEN)
    for kind in ANOMALIES['name']:
        (ours, _), (theirs, touched) = (inject(s, kind, 8, rng=1) for s in (raw, other))
        assert theirs.grid == EVEN and (theirs.catalog['amplitude'] > 0).any(), kind
        np.testing.assert_array_equal(theirs.flux[~touched], other.flux[~touched])
        if ANOMALIES.loc[kind]['how'] != 'added':
            continue
        expected = resampled(ours, EVEN).flux - other.flux
        got = theirs.flux - other.flux
        alike = [np.corrcoef(a, b)[0, 1] for a, b in zip(expected, got) if b.any()]
        assert np.median(alike) > 0.9, kind


# other rest-frame grids


def test_what_lies_off_the_grid():
    "Regions and windows of lines beyond it are left out and said to be."
    data = preprocess(mock_survey(60, rng=1), grid=Grid.log(4000, 6000, 300))
    errors = error_by_region(data, 0 * data.flux)
    starts = np.append(REGIONS['start'], np.inf)
    inside = (starts[:-1] < 6000) & (starts[1:] > 4000)
    known = [np.isfinite(errors[name]).any() for name in errors.colnames]
    np.testing.assert_array_equal(known, inside)
    names = ' '.join(segment(data.wave, 'physical', 40).names)
    assert 'Hβ' in names and 'Hα' not in names and 'Ca K' not in names


def words(settings: dict) -> list:
    return [w for k, v in settings.items() for w in ('--set', f'{k}={v}')]


def test_a_run_on_another_grid(tmp_path, monkeypatch, capsys):
    """Three numbers of the configuration, every stage; then the paper's grid in the same
    folder: nothing of the first is used, and models refuse each other's spectra."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('specanom.pipeline.MIN_TRAIN', 300)
    other = {f'preprocess.{name}': value for name, value in OTHER.items()}
    command = ['run', '--profile', 'tiny', *words(SMALL), '--out', 'run']
    assert main([*command, *words(other)]) == 0
    first = Run.load('run')
    assert first.spectra.grid == Grid.log(3500, 7500, 2000)
    stages = [s.name for s in STAGES.values() if s.belongs(first)]
    assert list(first.manifest['stages']) == stages and 'finished' in first.manifest
    table = first.table('anomalies')
    assert len(table) == 1 and table['explanation'][0]
    model, raw = first.model, mock_survey(40, rng=9)
    assert model.triage.grid == model.grid and model.grid['frame'] == 'rest'
    with pytest.raises(ValueError, match='2000 pixels, .* these spectra have 1000'):
        model.score(preprocess(raw))
    # files are brought to the model's grid
    write_spec(raw, 'files')
    capsys.readouterr()
    assert main(['score', 'files', '--model', 'run']) == 0
    assert main(['explain', str(next(Path('files').iterdir())), '--model', 'run']) == 0
    assert 'weights of' in capsys.readouterr().out
    # the same folder, the paper's grid
    assert main(command) == 0
    second = Run.load('run')
    assert second.spectra.grid == B23_GRID
    keys = (
        {n: s['key'] for n, s in r.manifest['stages'].items()} for r in (first, second)
    )
    assert not set(next(keys).values()) & set(next(keys).values())
    with pytest.raises(ValueError, match='1000 pixels, .* these spectra have 2000'):
        second.model.score(preprocess(raw, **OTHER))


# another survey, a whole run


def read_npz(path):
    "The spectra of one night, known by target and night."
    with np.load(path) as night:
        catalog = {name: night[name] for name in ('z', 'class', 'subclass')}
        catalog['specobjid'] = hash_id('made up', night['target'], path.stem)
        catalog['survey'] = 'made up'
        return Spectra(night['flux'], night['ivar'], EVEN, catalog)


@pytest.fixture
def folder(tmp_path):
    "A folder with a night of a made-up survey and some files of SDSS."
    galaxies = mock_survey(640, rng=7)
    night, folder = resampled(galaxies[:600], EVEN), tmp_path / 'both'
    write_spec(galaxies[600:], folder)
    columns = {n: np.asarray(night.catalog[n]) for n in ('z', 'class', 'subclass')}
    np.savez(
        folder / 'monday.npz',
        target=np.arange(len(night)),
        flux=night.flux,
        ivar=night.ivar,
        **columns,
    )
    add_reader('made up', lambda path: path.suffix == '.npz', read_npz, EVEN.wave)
    yield folder
    del READERS['made up']


def test_a_run_of_another_survey(folder, tmp_path, monkeypatch):
    """From its files through every stage, beside files of SDSS: training, triage, tables
    with reasons, figures."""
    monkeypatch.setattr('specanom.pipeline.MIN_TRAIN', 300)
    config = load_config('tiny', **SMALL | {'source': str(folder)})
    done = run(config, tmp_path / 'run')
    assert 'finished' in done.manifest
    stages = [s.name for s in STAGES.values() if s.belongs(done)]
    assert list(done.manifest['stages']) == stages
    scores, table = done.scores, done.table('anomalies_all')
    assert set(scores['survey']) == {'made up', 'mock'}
    assert np.isfinite(scores['logp']).all() and len(table) == 1
    assert all(np.isfinite(done.table('reconstruction_all')['Halpha_ew']))
    assert len(done.model.triage.kinds) > 100
    both = scores[np.unique(np.asarray(scores['survey']), return_index=True)[1]]
    raw = done.source.fetch(both)  # of both surveys, on one grid
    assert raw.grid == SDSS_GRID and len(raw) == 2
