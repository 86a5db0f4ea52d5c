"""The command in all surroundings: one line for whatever goes wrong, and a status that says whether anything came of it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import (
    ROOT,
    copy_project,
    empty_environment,
    find_dependencies,
    once,
    pip_install,
)
from specanom import cli, operands
from specanom.cli import main
from specanom.config import PROFILES, RECIPES, Config, load_config
from specanom.files import write_table
from specanom.objects import make_catalog
from specanom.options import make_parser


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.delenv('SPECANOM_DEBUG', raising=False)


def shell(*words, **settings):
    "The command in a process of its own, with these variables around it."
    env = (
        {
            k: v
            for k, v in os.environ.items()
            if k not in ('SPECANOM_DEBUG', 'PYTHONPATH')
        }
        | dict(PYTHONPATH=str(ROOT))
        | settings
    )
    return subprocess.run(
        [sys.executable, '-m', 'specanom', *map(str, words)],
        capture_output=True,
        env=env,
        cwd=settings.get('CWD', ROOT),
    )


# ---- words


@pytest.mark.parametrize(
    'words,nearest',
    [
        (['rnu'], 'run'),
        (['scor', 'x'], 'score'),
        (['run', '--sead', '3'], '--seed'),
        (['run', '--sead=3'], '--seed'),
        (['run', '--profile', 'tny'], 'tiny'),
        (['download', 'c', '--layuot', 'lite'], '--layout'),
        (['query', 'b24'], 'b23'),
        (['score', 'x', '--mdoel', 'y'], '--model'),
        (['paper', 'b32', 'x'], 'b23'),
        (['paper', 'b23', 'x', '--fcats', 'y'], '--facts'),
    ],
)
def test_nearest_word(words, nearest, capsys):
    "A mistyped command, option or choice is answered with the nearest one, in a line or two."
    with pytest.raises(SystemExit) as end:
        main(words)
    err = capsys.readouterr().err
    assert end.value.code == 2 and len(err.strip().splitlines()) == 2, err
    if '--mdoel' not in words:
        assert f'did you mean {nearest}?' in err, (
            err
        )  # there, the option that is missing comes first


@pytest.mark.parametrize(
    'setting,said',
    [
        ('flow.method=wrap', "did you mean 'warp'"),
        ('device=gpu', "must be one of 'auto', 'cpu'"),
        ('query.layout=plat', "did you mean 'plate'"),
        ('autoencoder.n_latent=0', 'the nearest is 1'),
        ('autoencoder.hidden=[0]', 'the nearest is 1'),
        ('autoencoder.hidden=[]', 'at least one layer'),
        ('autoencoder.hidden=5', r'write \[5\]'),
        ('autoencoder.hidden=["a"]', 'must hold numbers'),
        ('autoencoder.hidden=[10000000000]', 'the nearest is 20000'),
        ('autoencoder.ae1_lr=[1e-3]', 'must be two rates'),
        ('autoencoder.ae1_epochs=-1', 'the nearest is 1'),
        ('preprocess.max_masked=1.5', 'the nearest is 1'),
        ('preprocess.z_min=nan', 'must be from'),
        ('preprocess.z_min=0.9', 'must be below'),
        ('n=1e3', 'write 1000'),
        ('n=-1', 'at least 1'),
        ('seed=-1', 'the nearest is 0'),
        ('query.known=yes', 'write true'),
        ('query.release=20', 'the nearest is 19'),
        ('anomalies.fdr=2', 'the nearest is 0.999'),
        ('threads=-2', 'the nearest is 0'),
        ('flow.patience', 'NAME=VALUE'),
        ('flow=3', 'is a section'),
        ('flow.pateince=3', "did you mean 'patience'"),
    ],
)
def test_impossible_settings(setting, said, monkeypatch, capsys):
    "Refused before any work, with the nearest possible value or name."
    import specanom.pipeline

    monkeypatch.setattr(
        specanom.pipeline, 'run', lambda *a, **k: pytest.fail('the work began')
    )
    try:
        assert main(['run', '--set', setting]) == 2
    except SystemExit as end:
        assert end.code == 2
    assert re.search(said, capsys.readouterr().err)


def test_every_setting():
    "Whatever is set to whatever: a configuration or a ValueError in one line that names it."
    values = [
        -1,
        0,
        10**30,
        -1.0,
        0.0,
        1e300,
        float('nan'),
        float('inf'),
        '',
        'x',
        True,
        [],
        [0],
        [-1, 'a'],
        {'a': 1},
        None,
    ]
    tried = refused = 0
    for name in [*Config().values(), *Config().sections]:
        for value in values:
            tried += 1
            try:
                load_config(**{name: value})
            except ValueError as error:
                refused += 1
                assert name.split('.')[-1] in str(error) or name == 'profile', (
                    name,
                    value,
                    str(error),
                )
    assert tried > 500 and refused > 0.8 * tried, (tried, refused)


def test_profiles():
    "The command knows their names without a library that takes long to load."
    assert operands.PROFILES == list(PROFILES)
    assert operands.RECIPES == list(RECIPES)


# ---- errors

ERRORS = [
    (KeyError('flow'), 'KeyError'),
    (RuntimeError('a\n\nb'), 'RuntimeError: a b'),
    (RecursionError('deep'), 'RecursionError'),
    (ZeroDivisionError(), 'ZeroDivisionError'),
    (MemoryError(), 'not enough memory'),
    (UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'bad'), 'UnicodeDecodeError'),
    (AssertionError(), 'AssertionError'),
    (ValueError('two\nlines'), 'specanom: two lines'),
    (
        FileNotFoundError(2, 'No such file or directory', 'here/it.fits'),
        'specanom: here/it.fits: No such file',
    ),
    (OSError('plain'), 'specanom: plain'),
]


@pytest.mark.parametrize(
    'error,said',
    ERRORS,
    ids=lambda x: type(x).__name__ if isinstance(x, Exception) else '',
)
def test_no_traceback(error, said, monkeypatch, capsys):
    "Whatever fails is one line and status 2; --debug and SPECANOM_DEBUG show the place."

    def fail(args):
        raise error

    monkeypatch.setitem(cli._COMMANDS, 'info', fail)
    assert main(['info']) == 2
    err = capsys.readouterr().err
    assert (
        said in err and len(err.strip().splitlines()) == 1 and 'Traceback' not in err
    ), err
    with pytest.raises(type(error)):
        main(['info', '--debug'])
    monkeypatch.setenv('SPECANOM_DEBUG', '1')
    with pytest.raises(type(error)):
        main(['info'])


def test_damaged_files(tmp_path, capsys):
    "Configurations and catalogues that are none: one line that names the file."
    for name, text in (
        ('c.toml', b'\xff\xfe'),
        ('d.toml', b'flow = ['),
        ('e.toml', b'[flow]\npatience = "x"'),
        ('f.toml', b'[flow]\nmembers = -3'),
        ('g.toml', b'[[flow]]\nx=1'),
    ):
        (tmp_path / name).write_bytes(text)
        assert main(['run', '--config', str(tmp_path / name)]) == 2
        err = capsys.readouterr().err
        assert (name in err or name == 'f.toml') and len(
            err.strip().splitlines()
        ) == 1, err
    for name, text in (
        ('c.ecsv', b'\xff\xfe'),
        ('c.fits', b'SIMPLE  ='),
        ('d.ecsv', b''),
        ('e.csv', b'a,b\n1\n'),
    ):
        (tmp_path / name).write_bytes(text)
        assert (
            main(['download', str(tmp_path / name), '--out', str(tmp_path / 'out')])
            == 2
        )
        err = capsys.readouterr().err
        assert name in err and len(err.strip().splitlines()) == 1, err


@pytest.mark.parametrize(
    'words,said',
    [
        (
            ['score', 'x.fits', '--model', 'none', '--out', 'd.txt'],
            'must end in .ecsv, .fits, .csv',
        ),
        (
            ['score', 'x.fits', '--model', 'none', '--out', 'folder.ecsv'],
            'a folder of this name',
        ),
        (['query', '--out', 'cat.xlsx'], 'must end in'),
        (['tune', 'none', '--out', 'study.txt'], 'must end in .sqlite or .db'),
        (['tune', 'none', '--trials', '0'], 'must be at least 1'),
        (
            ['explain', 'x.fits', '--model', 'none', '--out', 'file'],
            'is a file, and a folder',
        ),
        (
            ['explain', 'x.fits', '--model', 'none', '--score', 'chi'],
            "not 'chi'; did you mean chi2",
        ),
        (
            ['explain', 'x.fits', '--model', 'none', '--segments', 'unifrom'],
            'did you mean uniform',
        ),
        (['download', 'c.ecsv', '--out', 'file'], 'is a file, and a folder'),
        (['paper', 'b23', 'none', '--out', 'page.pdf'], 'must end in .html'),
        (['paper', 'b23', 'none'], 'not the folder of a run'),
        (['known', 'supernova'], 'did you mean supernovae'),
        (['known', 'weird', '--out', 'weird.fits'], 'must end in .ecsv or .csv'),
        (['known', 'weird', '--out', 'folder.ecsv'], 'a folder of this name'),
        (['run', '--out', 'file'], 'is a file, and a folder'),
    ],
)
def test_refused_before_the_work(words, said, tmp_path, monkeypatch, capsys):
    "Endings and places of output, and names of scores, are looked at first."
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder.ecsv').mkdir()
    (tmp_path / 'file').write_text('precious')
    assert main(words) == 2
    assert (
        said in capsys.readouterr().err
        and (tmp_path / 'file').read_text() == 'precious'
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ['file', 'folder.ecsv']


def test_nothing_came_of_it(tmp_path, monkeypatch, capsys):
    "Status 1 when no spectrum was scored, explained or fetched; and no file is written."
    import specanom.download as download
    import specanom.pipeline as pipeline
    from specanom.grid import SDSS_WAVE
    from specanom.objects import reject_table
    from specanom.spectra import Spectra
    import numpy as np

    none = Spectra(
        np.zeros((0, len(SDSS_WAVE)), 'f4'),
        np.zeros((0, len(SDSS_WAVE)), 'f4'),
        SDSS_WAVE,
        make_catalog(),
        rejected=reject_table(['a.fits'], 'read', ['the file is empty']),
    )
    seen = []
    monkeypatch.setattr(pipeline.Run, 'load', classmethod(lambda cls, folder: None))
    monkeypatch.setattr(
        pipeline,
        'score_files',
        lambda files, run, *rest: (
            seen.append(files) or (none, none.catalog, none.rejected)
        ),
    )
    monkeypatch.setattr(download, 'download_spectra', lambda *a, **k: none)
    write_table(make_catalog(dict(specobjid=[1], run2d=['26'])), tmp_path / 'c.ecsv')
    relative = os.path.relpath(tmp_path / 'b.fits')
    assert (
        main(
            [
                'score',
                str(tmp_path / 'a.fits'),
                relative,
                '--model',
                'r',
                '--out',
                str(tmp_path / 'd.ecsv'),
            ]
        )
        == 1
    )
    assert (
        'a.fits: the file is empty' in capsys.readouterr().out
        and not (tmp_path / 'd.ecsv').exists()
    )
    assert seen == [[tmp_path / 'a.fits', tmp_path / 'b.fits']], (
        'absolute and relative names together are one kind'
    )
    assert (
        main(['explain', 'a.fits', '--model', 'r', '--out', str(tmp_path / 'e')]) == 1
        and not (tmp_path / 'e').exists()
    )
    assert (
        main(['download', str(tmp_path / 'c.ecsv'), '--out', str(tmp_path / 'f')]) == 1
    )


# ---- papers and lists


CHAPTER = """{"cells": [{"cell_type": "code", "execution_count": null, "id": "a",
"metadata": {}, "outputs": [], "source": "FACTS = 'papers/b23'\\nopen(FACTS + '/facts.json').read()"}],
"metadata": {}, "nbformat": 4, "nbformat_minor": 5}"""


@pytest.fixture
def paper_run(tmp_path, monkeypatch):
    "A folder that says it is a finished run of b23, and stand-ins for its chapter and facts."
    import specanom.papers as papers
    import specanom.runs as runs

    def facts_of(run, folder, compare):
        text = f'of {run.folder.name} compared with {compare and compare.name}'
        (folder / 'facts.json').write_text(text)

    (tmp_path / 'chapter.ipynb').write_text(CHAPTER)
    stand_in = papers.Paper(str(tmp_path / 'chapter.ipynb'), facts_of)
    monkeypatch.setitem(papers.PAPERS, 'b23', stand_in)
    config = SimpleNamespace(recipe='b23')
    run = SimpleNamespace(
        folder=tmp_path / 'mine', config=config, manifest=dict(finished='today')
    )
    monkeypatch.setattr(runs.Run, 'load', classmethod(lambda cls, folder: run))
    monkeypatch.chdir(tmp_path)
    return run


def test_paper(paper_run, tmp_path, capsys):
    "A page, and its facts where they are wanted; a run of another recipe or an unfinished one gives none."
    (tmp_path / 'other.csv').write_text('specobjid,score\n1,2\n')
    words = ['paper', 'b23', 'mine', '--compare', 'other.csv', '--facts', 'kept']
    assert main([*words, '--debug']) == 0
    assert capsys.readouterr().out.split() == ['page', 'b23.html', 'facts', 'kept']
    page = (tmp_path / 'b23.html').read_text()
    assert 'of mine compared with other.csv' in page
    assert (tmp_path / 'kept/facts.json').exists()
    for words, said in (
        (['paper', 'o25', 'mine'], "'b23', and this paper needs 'o25'"),
        (['paper', 'b23', 'mine', '--compare', 'none.csv'], 'no such catalogue'),
    ):
        assert main(words) == 2 and said in capsys.readouterr().err
    del paper_run.manifest['finished']
    assert main(['paper', 'b23', 'mine', '--out', 'c.html']) == 2
    assert 'is not finished' in capsys.readouterr().err
    assert not (tmp_path / 'c.html').exists() and not (tmp_path / 'o25.html').exists()


def test_paper_without_its_tools(paper_run, tmp_path, monkeypatch, capsys):
    "The extra is named before anything is collected."
    import specanom.papers as papers

    monkeypatch.setattr(papers, '_TOOLS', ('json', 'no_such_tool'))
    monkeypatch.setattr(papers, 'collect', lambda *a: pytest.fail('work began'))
    assert main(['paper', 'b23', 'mine']) == 2
    err = capsys.readouterr().err
    assert "needs no_such_tool: pip install 'specanom[papers]'" in err


def test_known(tmp_path, monkeypatch, capsys):
    "The lists there are; one of them as a file that run --known reads; no network is one line."
    import specanom.lists as lists
    from astropy.table import Table
    from specanom.known import read_known

    monkeypatch.setenv('SPECANOM_HOME', str(tmp_path / 'home'))
    monkeypatch.chdir(tmp_path)
    assert main(['known']) == 0
    out = capsys.readouterr().out
    assert all(name in out and one.address in out for name, one in lists.LISTS.items())
    found = dict(a=Table(dict(_RAJ2000=[10.5], _DEJ2000=[0.25], Type=['Ia'])))
    replay = SimpleNamespace(get_catalogs=lambda address: found)
    monkeypatch.setattr(lists, '_vizier', lambda: replay)
    assert main(['known', 'supernovae', '--out', 'sn.csv', '--debug']) == 0
    assert 'next: specanom run --known sn.csv' in capsys.readouterr().out
    assert read_known('sn.csv')['ra'].tolist() == [10.5]

    def refuse(address):
        raise ConnectionError('no route')

    replay.get_catalogs = refuse
    assert main(['known', 'supernovae']) == 0, 'what was fetched is here'
    assert main(['known', 'weird']) == 2
    assert 'no connection' in capsys.readouterr().err


def test_store_with_a_slash(monkeypatch):
    "`x.zarr/` is `x.zarr`."
    import specanom.pipeline as pipeline

    class Found(Exception):
        pass

    def run(config, *a, **k):
        raise Found(config.source)

    monkeypatch.setattr(pipeline, 'run', run)
    for given, meant in (('x.zarr/', 'x.zarr'), ('/', '/'), ('./mock', './mock')):
        with pytest.raises(Found, match=f'^{meant}$'):
            main(['run', '--source', given, '--debug'])


# ---- surroundings


def test_module():
    "python -m specanom is the command."
    got = shell('cite')
    assert got.returncode == 0 and b'2308.00752' in got.stdout and not got.stderr
    assert shell('--help').stdout.startswith(b'usage: specanom')


def test_broken_pipe():
    "A reader that goes away ends the output without a word."
    read, write = os.pipe()
    os.close(read)
    got = subprocess.run(
        [sys.executable, '-m', 'specanom', 'cite'],
        stdout=write,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    os.close(write)
    assert got.returncode == 141 and got.stderr == b'', got.stderr


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
def test_answer_on_a_full_disk():
    "The answer itself cannot be written."
    with open('/dev/full', 'w') as full:
        got = subprocess.run(
            [sys.executable, '-m', 'specanom', 'cite'],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
    assert got.returncode == 2 and len(got.stderr.strip().splitlines()) == 1, got.stderr


ASCII = dict(PYTHONUTF8='0', PYTHONCOERCECLOCALE='0', LC_ALL='C')
LETTERS = '''
import sys
from specanom.config import load_config
from specanom.files import read_table, write_table
from specanom.objects import make_catalog
from specanom.options import make_parser
assert sys.stdout.encoding.lower() in ('ascii', 'ansi_x3.4-1968', 'us-ascii'), sys.stdout.encoding
path = sys.argv[1]
write_table(make_catalog(dict(file=['\\u591c/\\xe9.fits'])), path + '/t.ecsv')
assert read_table(path + '/t.ecsv')['file'][0] == '\\u591c/\\xe9.fits'
load_config(source='\\u591c').write(path + '/c.toml')
assert load_config(file=path + '/c.toml').source == '\\u591c'
'''


def test_terminal_without_letters(tmp_path):
    "Where only ASCII is known, names are shown as codes, and files are UTF-8 all the same."
    got = shell('info', tmp_path / '夜', **ASCII)
    assert (
        got.returncode == 2
        and b'Traceback' not in got.stderr
        and len(got.stderr.splitlines()) == 1
    ), got.stderr
    got = subprocess.run(
        [sys.executable, '-c', LETTERS, tmp_path],
        env=os.environ | dict(PYTHONPATH=str(ROOT)) | ASCII,
        capture_output=True,
        text=True,
    )
    assert got.returncode == 0, got.stderr


def test_backend_of_a_notebook():
    "A backend that a notebook left in the environment does not keep the command from drawing."
    code = 'from specanom.cli import main; main(["cite"]); import matplotlib.pyplot as plt; plt.figure(); print(plt.get_backend())'
    env = os.environ | dict(PYTHONPATH=str(ROOT), MPLBACKEND='module://no.such.backend')
    got = subprocess.run(
        [sys.executable, '-c', code], env=env, capture_output=True, text=True
    )
    assert got.returncode == 0 and got.stdout.strip().endswith('agg'), got.stderr


def test_clone_in_the_working_folder(tmp_path):
    "An editable install, as `make` makes it, works where the clone lies beside."

    def install(env):
        empty_environment(env)
        find_dependencies(env)  # the builder, too
        pip_install(env, '--no-build-isolation', '-e', copy_project(env / 'project'))

    env = once('editable', install)
    (tmp_path / 'specanom' / 'specanom').mkdir(parents=True)
    environ = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    for command in (
        ['-m', 'specanom', 'cite'],
        [
            '-c',
            'import specanom.core as core, specanom.files as files; core.provenance(); files.cached',
        ],
    ):
        got = subprocess.run(
            [env / 'bin' / 'python', *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env=environ,
        )
        assert got.returncode == 0, got.stderr


# ---- what is promised


def test_examples_and_width(capsys):
    "Every command has examples, and no help is wider than a terminal; statuses are told."
    parser = make_parser()
    for name, command in parser.commands.items():
        said = command.format_help()
        assert f'specanom {name}' in said.partition('xample')[2], name
        assert max(map(len, said.splitlines())) <= 100, said
    assert all(f'{status} ' in parser.format_help() for status in (0, 1, 2, 130, 141))


def test_answers_fit(capsys):
    "No line of an answer is wider than a terminal, paths apart."
    for words in (['cite'], ['known'], ['info'], ['info', '--settings']):
        assert main(words) == 0
        lines = capsys.readouterr().out.splitlines()
        assert all(len(one) <= 100 for one in lines if '/' not in one), words


@pytest.mark.parametrize('words', [['known'], ['info'], ['info', '--settings', 'flow']])
def test_json(words, capsys):
    "An answer for programs."
    assert main([*words, '--json']) == 0
    assert json.loads(capsys.readouterr().out)['rows']


def test_json_of_nothing(monkeypatch, capsys):
    "Where nothing came of it, JSON says so, and the status is 1."

    def fail(args):
        raise cli.Nothing('nothing here')

    monkeypatch.setitem(cli._COMMANDS, 'known', fail)
    assert main(['known', '--json']) == 1
    assert json.loads(capsys.readouterr().out) == dict(said='nothing here', rows=[])


def test_voice(monkeypatch, capsys):
    "Progress on standard error: quiet says none of it, verbose says when."
    from specanom.core import hidden, log

    def work(args):
        log.info('at work')
        log.debug('in detail')
        return f'hidden {hidden()}'

    monkeypatch.setitem(cli._COMMANDS, 'info', work)
    said = {}
    for words in ((), ('-q',), ('-v',)):
        assert main(['info', *words]) == 0
        said[words] = capsys.readouterr()
    assert said[()].err == 'at work\n' and 'None' in said[()].out
    assert said['-q',].err == '' and 'True' in said['-q',].out
    assert re.search(r'\d\d:\d\d.* at work\n.*in detail', said['-v',].err, re.S)


@pytest.mark.skipif(not shutil.which('bash'), reason='needs bash')
def test_completion(capsys):
    "What bash is given is bash, and knows the commands."
    assert main(['completion', 'bash']) == 0
    script = capsys.readouterr().out
    got = subprocess.run(['bash', '-n'], input=script, text=True, capture_output=True)
    assert got.returncode == 0, got.stderr
    assert 'anomalies' in script and '--fdr' in script


def test_parquet(tmp_path, monkeypatch):
    "A table as Parquet, and back; without pyarrow the extra is named before any work."
    import specanom.files as files

    path = tmp_path / 'x.parquet'
    if files.find_spec('pyarrow'):
        table = make_catalog(dict(specobjid=[2**63 + 1], z=[0.1]))
        write_table(table, path)
        back = files.read_table(path)
        assert back['specobjid'].tolist() == [2**63 + 1]
        assert str(back['ra'].unit) == 'deg' and back['z'].description
    monkeypatch.setattr(files, 'find_spec', lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'specanom\[tables\]'"):
        files.check_table_path(path)


def test_figures_for_print(tmp_path):
    "The same figure has the same bytes, as an image or for print."
    import matplotlib.pyplot as plt
    from specanom.pages import save_figure

    for kind in ('png', 'pdf'):
        for name in ('a', 'b'):
            fig, ax = plt.subplots()
            ax.plot([1, 2], [3, 4])
            save_figure(fig, tmp_path / name, kind=kind, dpi=100)
        one, other = (tmp_path / f'{name}.{kind}' for name in ('a', 'b'))
        assert one.read_bytes() == other.read_bytes(), kind
