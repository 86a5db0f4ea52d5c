"Work by chunks: by this process, by others, on a cluster; what breaks on the way; stores at an address."

import contextlib
import logging
import random
from functools import partial

import numpy as np
import pytest
import torch
from conftest import SMALL
from faults import FAULTS, SAME, TOLD, Place, dies_in_mid_answer

from specanom.chunks import (
    Cluster,
    NobodyThere,
    Workers,
    map_chunks,
    open_executor,
    ordered_map,
)
from specanom.cli import main
from specanom.config import load_config, preparation
from specanom.mock import mock_survey
from specanom.pipeline import run, with_scores
from specanom.sealed import place_of, store_digest, write_chunks
from specanom.sources import StoreSource, prepared
from specanom.spectra import Spectra, check_store


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp('place'))


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    "A finished run of one member, as small as a run can be."
    fewer = {'ensemble': 1, 'autoencoder.ae1_epochs': 1, 'autoencoder.ae2_epochs': 1}
    fewer |= {'flow.epochs': 1, 'anomalies.hosts': 0}
    before, _ = torch.get_num_threads(), torch.set_num_threads(1)
    yield run(
        load_config('tiny', **(SMALL | fewer)), tmp_path_factory.mktemp('r') / 'r'
    )
    torch.set_num_threads(before)


def of_all(run, executor):
    "What a run makes by chunks: prepared spectra, their scores."
    run.executor = executor
    pieces = list(prepared(run.source, preparation(run.config), executor))
    judge = run.with_model(with_scores)
    tables = list(map_chunks(judge, run.spectra, executor, size=512))
    run.executor = None
    images = [piece.flux.tobytes() + piece.ivar.tobytes() for piece in pieces]
    columns = [t[name].tobytes() for t in tables for name in t.colnames]
    truth = [t.as_array().tobytes() for t in run.source.truth]
    return images, columns, truth


def test_workers(finished):
    "Two processes give the bytes of one: spectra, truth, scores."
    here = of_all(finished, None)
    with Workers(2) as workers:
        assert of_all(finished, workers) == here


def test_dask(finished):
    "So does a Dask scheduler with two workers."
    distributed = pytest.importorskip('distributed', reason='Dask is not installed')
    here = of_all(finished, None)
    options = dict(n_workers=2, threads_per_worker=1, dashboard_address=None)
    options |= dict(silence_logs=logging.CRITICAL)
    with distributed.LocalCluster(**options) as local:
        with open_executor(cluster=local.scheduler_address) as cluster:
            assert of_all(finished, cluster) == here


def test_nobody_answers(tmp_path, capsys):
    "An address where there is no scheduler: one sentence, before any work."
    pytest.importorskip('distributed', reason='Dask is not installed')
    address = 'tcp://127.0.0.1:9'
    with pytest.raises(NobodyThere, match=f'{address}: no Dask scheduler answers'):
        Cluster(address)


def test_both(tmp_path, capsys):
    "Workers and a cluster at once are refused in one line."
    words = ['run', '--workers', '2', '--cluster', 'tcp://127.0.0.1:9']
    assert main([*words, '--out', str(tmp_path / 'run')]) == 2
    assert 'one of them, not both' in capsys.readouterr().err
    assert not (tmp_path / 'run').exists()


QUICK = 'a worker killed in mid-task', 'all workers killed', 'a byte of a chunk changed'


@pytest.mark.parametrize('name', QUICK)
def test_faults(place, name):
    "A fault ends in the undisturbed bytes, or in one message; `faults.py` tries many."
    for trial in range(1 if 'worker' in name else 4):
        assert FAULTS[name][1](place, random.Random(trial)) in (SAME, TOLD)


def test_half_an_answer(tmp_path):
    "A worker that dies while it writes its answer is replaced; nobody waits for the rest."
    work = partial(dies_in_mid_answer, marker=tmp_path / 'died')
    with Workers(2) as workers:
        assert [*ordered_map(work, range(8), workers)] == [*range(8)]
    assert (tmp_path / 'died').exists()


@pytest.mark.parametrize('kind', ['memory', 'file'])
def test_store_at_an_address(tmp_path, kind):
    "A store at an address is read by rows, is a source, and its damage is named."
    root = 'memory://scale' if kind == 'memory' else tmp_path.as_uri()
    address, raw = f'{root}/raw.zarr', mock_survey(40, rng=0)
    for _ in range(2):  # the second time in the place of the first
        write_chunks(address, raw.chunks(16), rows=8, shard=16)
    lazy = Spectra.read(address, lazy=True)
    assert (lazy.flux[[3, 39]] == raw.flux[[3, 39]]).all()
    assert (lazy.window(8, 20)[:].ivar == raw.ivar[8:20]).all()
    assert check_store(address) == 40
    raw.write(tmp_path / 'here.zarr')
    write_chunks(tmp_path / 'same.zarr', raw.chunks(16), rows=8, shard=16)
    assert store_digest(address) == store_digest(tmp_path / 'same.zarr')
    streamed = Spectra.concatenate(StoreSource(address).stream())
    assert (streamed.flux == raw.flux).all()
    broken = place_of(address) / 'flux/c/1/0'
    content = bytearray(broken.read_bytes())
    content[len(content) // 3] ^= 1
    broken.write_bytes(bytes(content))
    with pytest.raises(ValueError, match='flux/c/1/0 is damaged'):
        check_store(address)
    with contextlib.suppress(AttributeError):
        place_of(address).remove()


def test_an_address_of_somebody_else():
    "What is no store is not written over, nor read as one."
    place = place_of('memory://scale/others.zarr')
    (place / 'notes.txt').write_bytes(b'mine')
    with pytest.raises(ValueError, match='is no store of spectra: move it away'):
        write_chunks(str(place), [mock_survey(4, rng=0)])
    with pytest.raises(ValueError, match='is no store of spectra'):
        Spectra.read(str(place))
    with pytest.raises(FileNotFoundError):
        Spectra.read('memory://scale/nothing.zarr')


def test_update_command(finished, tmp_path, capsys):
    "`update` says what is new, once; what is not a run or a source is refused; a few objects are not said to be as before."
    few = mock_survey(2600, rng=0)[2592:2600]
    few.write(tmp_path / 'few.zarr')
    words = ['update', str(finished.folder), '--source', str(tmp_path / 'few.zarr')]
    assert main(words) == 0
    assert 'not tested: no group has 20' in capsys.readouterr().out
    mock_survey(2600, rng=0)[2540:].write(tmp_path / 'night.zarr')
    words = ['update', str(finished.folder), '--source', str(tmp_path / 'night.zarr')]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert 'set aside' in said and str(finished.folder / 'updates') in said
    assert main(words) == 0
    assert capsys.readouterr().out.startswith('0 new, ')
    assert main([*words, '--level', '2']) == 2
    assert main(['update', str(finished.folder), '--source', 'mock']) == 2
    assert main(['update', str(finished.folder), '--source', 'nowhere']) == 2
    assert 'Traceback' not in capsys.readouterr().err


def test_networks_do_not_copy_a_survey(finished):
    "What is scaled a batch at a time is what was scaled at once."
    from specanom.autoencoder import _Scaled

    flux, factor = np.asarray(finished.spectra.flux[:9]), 1 / 3.7
    for dtype in (np.float64, np.float32):
        weight = torch.zeros(1, dtype=getattr(torch, np.dtype(dtype).name))
        batch = _Scaled.of(flux, factor, weight).batch(slice(2, 7)).numpy()
        assert (batch == np.asarray(flux, dtype)[2:7] * dtype(factor)).all()


def test_members_share_a_survey():
    "A member that shares one image of the survey becomes what copies of its own make of it."
    from specanom.autoencoder import fit_pair
    from specanom.model import SEEDS, fit_networks, member_split
    from specanom.preprocess import preprocess, split_ids

    data = preprocess(mock_survey(400, rng=0))
    small = dict(hidden=(16,), ae1_epochs=2, ae2_epochs=1, device='cpu')
    shared = fit_networks(data, 2, rng=3, **small)[1]
    side = member_split(split_ids(data.catalog), 1, 2)
    sets = [data[np.flatnonzero(side == name)] for name in ('train', 'valid')]
    alone = fit_pair(*sets, rng=3 + SEEDS, **small)
    for ours, theirs in zip(shared.networks, alone.networks):
        assert ours.history == theirs.history
        for name, weight in ours.state_dict().items():
            assert torch.equal(weight, theirs.state_dict()[name])
