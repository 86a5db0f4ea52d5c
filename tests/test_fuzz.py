"""A little of what `make fuzz` does: the same damage, the same servers, fewer of them."""

import numpy as np
import pytest
from fuzz import Late, fuzz_files, in_time
from misbehaviour import FILES, PAGES, SLOW, try_file, try_page
from sdss_server import ReplayServer, make_archive

from specanom.query import query_catalog

SEED = 20


def some(names, n, kind):
    "A few of the quick ones, by seed, and one of the slow ones."
    quick = sorted(set(names) - set(SLOW))
    return [*np.random.default_rng(SEED).permutation(quick)[:n].tolist(), kind]


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    with ReplayServer(
        make_archive(tmp_path_factory.mktemp('archive'), plates=0)
    ) as server:
        yield server
    assert not server.errors


@pytest.fixture
def right(server, tmp_path, monkeypatch):
    monkeypatch.setenv('SPECANOM_HOME', str(tmp_path / 'first'))
    server.forget()
    catalog = query_catalog('b23', skyserver=server.url)
    monkeypatch.setenv('SPECANOM_HOME', str(tmp_path / 'home'))
    return catalog


def test_damaged_files(tmp_path):
    count, lost = fuzz_files(200, SEED, tmp_path)
    assert (
        not lost
        and count['tried'] == 200
        and count['read as by astropy'] > 10
        and count['rejected with a reason'] > 100
    )


@pytest.mark.parametrize('name', some(FILES, 10, 'trailer does not end'))
def test_misbehaving_archive(server, right, tmp_path, name):
    with in_time(60):
        assert try_file(server, right, name, tmp_path / 's') == ''


@pytest.mark.parametrize('name', some(PAGES, 10, 'header without end'))
def test_misbehaving_skyserver(server, right, name, tmp_path):
    with in_time(60):
        assert try_page(server, right, name, tmp_path) == ''


def test_what_takes_too_long_is_noticed():
    with pytest.raises(Late), in_time(1):
        while True:
            pass
