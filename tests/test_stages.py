"""A stage of one's own: one entry, and every run does it. Copy this to begin another."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table
from conftest import SMALL, once

from specanom.cli import main
from specanom.config import load_config
from specanom.files import read_table
from specanom.settings import add_section, drop_section
from specanom.pipeline import STAGES, Run, add_stage, run

FILE = 'tables/census.ecsv'


def census(
    labels: np.ndarray,  # (n,) classes of objects
    *,
    at_least: int = 2,  # Objects of a class that is listed
) -> Table:
    "How many objects are in each class."
    label, objects = np.unique(labels, return_counts=True)
    return Table(dict(label=label, objects=objects))[objects >= at_least]


def write_census(run: Run) -> dict:
    "The classes of a run's objects."
    options = run.config.census.of(census)
    table = census(np.asarray(run.scores['new_label']), **options)
    run.write(table, FILE)
    return dict(classes=len(table))


def write_census_backwards(run: Run) -> dict:
    "The classes of a run's objects, the last one first."
    options = run.config.census.of(census)
    table = census(np.asarray(run.scores['new_label']), **options)
    run.write(table[::-1], FILE)
    return dict(classes=len(table))


def enter():
    "The entry, and a section for its setting."
    add_section('census', census, ranges=dict(at_least=(1, 10**6)))
    add_stage('census', write_census, owns=FILE, after='significance', config='census')


def leave():
    del STAGES['census']
    drop_section('census')


@pytest.fixture
def entered():
    enter()
    yield
    if 'census' in STAGES:
        leave()


def small(**changes):
    return load_config('tiny', **SMALL | changes)


@pytest.fixture
def folder(tmp_path):
    "A finished run, made once for all tests."
    made = once('run', lambda folder: run(small(), folder))
    return shutil.copytree(made, tmp_path / 'run')


def repeated(folder, **changes):
    "The stages that a run does not keep."
    before = Run.load(folder).manifest['stages']
    after = run(small(**changes), folder).manifest['stages']
    return [name for name in after if after[name] != before.get(name)]


def test_a_stage_in_one_entry(folder, entered, capsys):
    "Its file appears and is kept; its setting and its code repeat it, and only it."
    assert repeated(folder) == ['census']
    everybody = Run.load(folder).table('census')
    assert everybody['objects'].sum() > 2000
    assert repeated(folder) == []
    assert repeated(folder, **{'census.at_least': 100}) == ['census']
    assert len(Run.load(folder).table('census')) < len(everybody)
    STAGES['census'] = replace(STAGES['census'], make=write_census_backwards)
    assert repeated(folder) == ['census']
    assert Run.load(folder).table('census')['label'][0] == everybody['label'][-1]
    (folder / FILE).unlink()
    assert main(['check', str(folder)]) == 1
    assert f'{FILE} is missing' in capsys.readouterr().out
    assert repeated(folder) == ['census']
    leave()
    assert repeated(folder) == [] and not (folder / FILE).exists()
    assert main(['check', str(folder)]) == 0
    assert 'census' not in capsys.readouterr().out


def test_settings_have_limits(entered):
    with pytest.raises(ValueError, match='census.at_least = 0 must be from 1 to'):
        small(**{'census.at_least': 0})


def test_a_stage_that_cannot_be(tmp_path, entered):
    "Refused when it is entered, or before the first stage of a run begins."
    with pytest.raises(ValueError, match="cannot own scores.ecsv, which is of 'sig"):
        add_stage('again', write_census, owns='scores.ecsv')
    with pytest.raises(ValueError, match="comes after 'score', which is none"):
        add_stage('again', write_census, owns='again.ecsv', after='score')
    with pytest.raises(ValueError, match="there is a stage 'census' already"):
        add_stage('census', write_census, owns='again.ecsv')
    STAGES['census'] = replace(STAGES['census'], config=('censsus',))
    with pytest.raises(ValueError, match="did you mean 'census'"):
        run(small(), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_tables_say_what_they_are(folder, capsys):
    "Each names program, recipe and day; each column what it is; a paper's form is fixed."
    tables = sorted((folder / 'tables').glob('*.ecsv'))
    for path in [*tables, folder / 'scores.ecsv', folder / 'rejected.ecsv']:
        table = read_table(path)
        assert table.meta['creator'].startswith('specanom '), path
        assert table.meta['recipe'] == 'best' and len(table.meta['date']) == 10
        silent = [n for n in table.colnames if not table[n].info.description]
        assert not silent, (path.name, silent)
    listed = read_table(folder / 'tables/anomalies.ecsv')
    assert listed['ra'].info.meta['ucd']
    wanted = set(listed.colnames)
    printed = Table.read(folder / 'tables/anomalies.mrt', format='ascii.cds')
    assert set(printed.colnames) == wanted


def test_anomalies_leave_the_run_alone(folder, capsys):
    "Another rate is another list; that of the run stays, also where it is named as --out."
    own = folder / 'tables/discoveries.ecsv'
    before = own.read_bytes()
    assert main(['anomalies', str(folder), '--fdr', '0.5', '--json']) == 0
    assert json.loads(capsys.readouterr().out)['fdr'] == 0.5
    assert main(['anomalies', str(folder), '--fdr', '0.5', '--out', str(own)]) == 2
    assert 'what the run itself listed' in capsys.readouterr().err
    assert own.read_bytes() == before
    assert main(['check', str(folder)]) == 0


def test_a_run_shows_itself(folder):
    "In Jupyter: what was run and what came of it; no page is no page."
    r = Run.load(folder)
    assert '<table>' in r._repr_html_() and 'ranked' in r._repr_html_()
    for thing in (r.model, r.model.members[0].chain, r.model.members[0].density):
        assert thing._repr_html_().startswith('<table>') and len(repr(thing)) < 200
    if not (folder / 'report.html').exists():
        with pytest.raises(FileNotFoundError, match='has no page'):
            r.browse()
        (folder / 'report.html').write_text('<p title="x">&amp;</p>')
    assert 'srcdoc=' in r.browse()._repr_html_()
