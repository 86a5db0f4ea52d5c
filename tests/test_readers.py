"""A survey that nobody has heard of: one entry takes its files to a table of scores."""

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import pytest

import specanom.surveys as surveys
from specanom.anomalies import top_anomalies
from specanom.autoencoder import fit_pair
from specanom.config import load_config
from specanom.grid import SDSS_WAVE
from specanom.objects import hash_id
from specanom.spectra import Spectra
from specanom.surveys import (
    READERS,
    add_reader,
    find_spectra,
    iter_spectra,
    read_spectra,
)
from specanom.mock import mock_survey
from specanom.pipeline import STAGES, Run
from specanom.preprocess import preprocess, split
from specanom.reconstruction import reconstruction_error

WAVE = np.arange(3810.0, 9190.0, 1.5)  # AA, vacuum, in even steps


def read_npz(path):
    "One night of the survey: many spectra in a file, known by target and night."
    with np.load(path) as night:
        ids = hash_id('made up', night['target'], path.stem)
        catalog = dict(specobjid=ids, z=night['z'], subclass='', target=night['target'])
        catalog |= {'class': 'GALAXY', 'survey': 'made up'}
        return Spectra(night['flux'], night['error'] ** -2.0, WAVE, catalog)


def write_npz(folder, night, galaxies, first):
    "The same galaxies as this survey would keep them."
    resampled = partial(np.interp, WAVE, SDSS_WAVE)
    flux = np.array([resampled(f) for f in galaxies.flux])
    ivar = np.array([resampled(i) for i in galaxies.ivar])
    error = np.full(ivar.shape, np.inf)  # where nothing was measured
    error[ivar > 0] = ivar[ivar > 0] ** -0.5
    np.savez(
        folder / f'{night}.npz',
        target=first + np.arange(len(galaxies)),
        z=galaxies.catalog['z'],
        flux=flux,
        error=error,
    )


@pytest.fixture
def survey(tmp_path):
    "A folder of two nights and files that are none, and the survey's entry."
    galaxies = mock_survey(60, rng=7)
    folder = tmp_path / 'made up'
    folder.mkdir()
    write_npz(folder, 'monday', galaxies[:30], first=1)
    write_npz(folder, 'tuesday', galaxies[30:], first=1)
    (folder / 'wednesday.npz').write_bytes(b'it rained')
    (folder / 'diary.txt').write_text('nobody reads this')
    add_reader('made up', lambda path: path.suffix == '.npz', read_npz, WAVE)
    yield folder, galaxies
    del READERS['made up']


def test_from_files_to_the_rest_frame(survey):
    "Its own ids and grid come in, the rest frame of everybody comes out."
    folder, galaxies = survey
    raw = read_spectra(folder)
    assert raw.flux.shape == (60, len(WAVE))
    assert raw.rejected['name'].tolist() == ['wednesday.npz']
    first = raw.catalog['file'][[0, 30]].tolist()
    assert first == ['monday.npz#0001', 'tuesday.npz#0001']
    assert len(set(raw.catalog['specobjid'].tolist())) == 60  # one number, two nights
    ours, theirs = preprocess(galaxies, mask='none'), preprocess(raw)
    # the same galaxies pass, and what is known of each bin is within its error
    both = np.isin(galaxies.catalog['specobjid'], ours.catalog['specobjid'])
    kept = np.isin(raw.catalog['specobjid'], theirs.catalog['specobjid'])
    assert (both == kept).mean() > 0.9
    one = ours[np.isin(ours.catalog['specobjid'], galaxies.catalog['specobjid'][kept])]
    other = theirs[np.isin(theirs.catalog['specobjid'], raw.catalog['specobjid'][both])]
    pull = (one.flux - other.flux) * np.sqrt(one.ivar)
    assert np.median(np.abs(pull[one.good & other.good])) < 0.5


def test_several_processes_read_the_same(survey):
    "Other processes know the readers of this one."
    folder, _ = survey
    one, two = (
        Spectra.concatenate(iter_spectra(folder, jobs=jobs, chunk=1)) for jobs in (1, 2)
    )
    assert np.array_equal(one.flux, two.flux)
    assert one.rejected['reason'].tolist() == two.rejected['reason'].tolist()


def test_reader_is_part_of_the_key(survey, tmp_path):
    "A run reads the files again when their reader is another, or their grid."
    config = load_config(source=str(survey[0]))
    keys = [Run(tmp_path / 'run', config).key(STAGES['spectra']) for _ in range(2)]
    for read, wave in [(np.load, WAVE), (read_npz, WAVE + 1)]:
        del READERS['made up']
        add_reader('made up', lambda path: path.suffix == '.npz', read, wave)
        keys.append(Run(tmp_path / 'run', config).key(STAGES['spectra']))
    assert keys[0] == keys[1] and len(set(keys)) == 3


def test_from_files_to_a_table(survey):
    "A model that was trained on another survey ranks its spectra by their own names."
    folder, _ = survey
    small = dict(hidden=(32,), ae1_epochs=1, ae2_epochs=1, quiet=True)
    train, valid, _ = split(preprocess(mock_survey(1280)))
    chain = fit_pair(train, valid, **small)
    data = preprocess(read_spectra(folder))
    error = reconstruction_error(data, chain.reconstruct(data.flux))
    data.catalog['re'] = error
    table = top_anomalies(error, data.catalog, k=3)
    assert len(data) + len(data.rejected) == 61  # everybody, and the night it rained
    assert len(table) == 15 and np.isfinite(table['re']).all()
    assert set(table['specobjid']) <= set(data.catalog['specobjid'])


def read_or_die(path):
    "A reader whose process dies at one of its files."
    if path.name == 'thursday.npz':
        os.kill(os.getpid(), signal.SIGKILL)
    return read_npz(path)


def test_a_process_that_dies_costs_one_file(survey, monkeypatch):
    "It is named in an empty set on the survey's own grid, and all others are read."
    folder, galaxies = survey
    write_npz(folder, 'thursday', galaxies[:30], first=100)
    del READERS['made up']
    add_reader('made up', lambda path: path.suffix == '.npz', read_or_die, WAVE)
    fork = multiprocessing.get_context('fork')
    monkeypatch.setattr(surveys, '_pool', lambda jobs: ProcessPoolExecutor(jobs, fork))
    raw = Spectra.concatenate(iter_spectra(folder, jobs=2, chunk=3))
    assert raw.flux.shape == (60, len(WAVE))
    assert sorted(raw.rejected['name']) == ['thursday.npz', 'wednesday.npz']
    assert 'died' in raw.rejected['reason'][raw.rejected['name'] == 'thursday.npz'][0]


def test_folders_and_files_in_one_list(survey, tmp_path):
    "A folder in a list is searched; a place that is not there is named."
    folder, _ = survey
    both = find_spectra([folder, folder / 'monday.npz'])
    assert both == find_spectra(folder)
    with pytest.raises(FileNotFoundError, match='nowhere: no such file or folder'):
        find_spectra([folder, tmp_path / 'nowhere'])
