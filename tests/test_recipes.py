"""The recipes of the papers by the command: a run, its model on files, and what belongs to one recipe and not to another."""

import re

import numpy as np
import pytest
from conftest import SMALL
from specanom.cli import main
from specanom.files import read_table, write_table
from specanom.mock import mock_survey
from specanom.features import find_object
from specanom.runs import Run
from specanom.write import write_spec

O25 = {
    'threads': 1,
    'n': 2560,
    'vae.bins': 2,
    'vae.hidden': [32],
    'vae.epochs': 4,
    'explanations.segments': 16,
}
B23 = {name: value for name, value in SMALL.items() if name != 'ensemble'}
B23 |= {'autoencoder.preset': '', 'flow.max_layers': 3}


def _words(settings: dict) -> list[str]:
    "Settings as words of the command."
    return [f'--set={name}={value!r}' for name, value in settings.items()]


def _run(recipe: str, folder, settings: dict, *words):
    asked = ['run', '--recipe', recipe, '--profile', 'tiny', '--out', str(folder)]
    return main([*asked, *_words(settings), *words])


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A run of each paper, and twelve files."
    root = tmp_path_factory.mktemp('recipes')
    assert _run('o25', root / 'o25', O25) == 0
    assert _run('b23', root / 'b23', B23) == 0
    write_spec(mock_survey(12, rng=8), root / 'files')
    return root


def test_stages(folder):
    "Each recipe does its own stages; the manifest says which it was."
    o25, b23 = (Run.load(folder / name) for name in ('o25', 'b23'))
    assert {'o25 networks', 'groups', 'o25 tables'} <= o25.manifest['stages'].keys()
    assert {'networks', 'sensitivity'} <= b23.manifest['stages'].keys()
    assert not {'groups', 'o25 scores'} & b23.manifest['stages'].keys()
    assert not {'networks', 'tables'} & o25.manifest['stages'].keys()
    assert (o25.manifest['recipe'], b23.manifest['recipe']) == ('o25', 'b23')


def test_b23_ranks_as_the_paper(folder):
    "One network; validation and test are ranked, and the bins are theirs."
    run = Run.load(folder / 'b23')
    assert len(run.model.members) == 1
    sides = run.scores['split'][run.scores['p_all'] > -1]
    listed = {int(i) for i in run.table('anomalies_all')['specobjid']}
    row = {int(i): side for i, side in zip(run.scores['specobjid'], sides)}
    assert {row[i] for i in listed} <= {'valid', 'test'}
    ranked = run.manifest['stages']['tables']['ranked']
    assert ranked == sum(side != 'train' for side in sides)


@pytest.mark.parametrize('recipe', ['o25', 'b23'])
def test_model_keeps_the_recipe(folder, recipe, capsys):
    "Every file is scored or set aside by the recipe of the model, as `score` does."
    words = ['run', '--source', str(folder / 'files'), '--model', str(folder / recipe)]
    out = folder / f'scored-{recipe}'
    assert main([*words, '--out', str(out)]) == 0
    run = Run.load(out)
    assert run.config.recipe == recipe
    rejected = read_table(out / 'rejected.ecsv')
    assert len(run.scores) + len(rejected) == 12 and len(run.scores) > 5
    table = out / 'scored.ecsv'
    files, model = str(folder / 'files'), str(folder / recipe)
    assert main(['score', files, '--model', model, '--out', str(table)]) == 0
    scored = read_table(table)
    by_file = {row['file']: row for row in run.scores}
    column = 'p_mse' if recipe == 'o25' else 'p_re'
    for row in scored:
        assert row[column] == pytest.approx(by_file[row['file']][column], rel=1e-6)
    assert (scored[column][0] <= scored[column]).all() or recipe == 'b23'
    capsys.readouterr()
    assert (
        main(['info', str(out)]) == 0 and f'recipe {recipe}' in capsys.readouterr().out
    )


def test_answers(folder, capsys):
    "What a run says of itself, and what it has not."
    o25, b23 = str(folder / 'o25'), str(folder / 'b23')
    assert main(['cite', o25]) == 0 and 'follows O25' in capsys.readouterr().out
    assert main(['cite', b23]) == 0 and 'follows B23' in capsys.readouterr().out
    assert main(['clusters', o25]) == 0 and 'reading' in capsys.readouterr().out
    assert main(['clusters', b23]) == 2
    assert 'a run of B23, which has no groups' in capsys.readouterr().err
    assert main(['anomalies', o25]) == 2
    assert 'lists the top of each score' in capsys.readouterr().err


def test_explain_o25(folder, capsys):
    "The command explains O25's scores with O25's networks, and knows no other."
    files, model = str(folder / 'files'), str(folder / 'o25')
    words = ['explain', files, '--model', model, '--most', '1', '--n', '16']
    assert main([*words, '--segments', 'uniform', '--out', str(folder / 'why')]) == 0
    assert len(read_table(folder / 'why/weights.ecsv')['weights'][0]) >= 16
    assert list((folder / 'why').glob('mse-*.png'))
    capsys.readouterr()
    assert main([*words, '--score', 're', '--out', str(folder / 'no')]) == 2
    assert "unknown score 're'" in capsys.readouterr().err


def test_known_list(folder, capsys):
    "A list of known objects is looked for by every score of O25."
    catalog = Run.load(folder / 'o25').spectra.catalog[:40]
    write_table(catalog['specobjid',], folder / 'list.ecsv')
    words = '--known', str(folder / 'list.ecsv')
    assert _run('o25', folder / 'o25', O25, *words) == 0
    assert 'by chi2_trim: 40 of 40 are among the ranked' in capsys.readouterr().out


def test_another_recipe_in_the_same_folder(folder, capsys):
    "The stages of the other recipe go, with their files, and the new ones are whole."
    again = folder / 'again'
    assert _run('o25', again, O25) == 0
    assert _run('b23', again, B23) == 0
    run, first = Run.load(again), Run.load(folder / 'b23')
    assert run.manifest['stages'].keys() == first.manifest['stages'].keys()
    assert not (again / 'models/o25.safetensors').exists()
    assert not (again / 'groups').exists()
    names = ('scores.ecsv', 'tables/anomalies.ecsv', 'tables/recall.ecsv')
    for name in names:
        assert (again / name).read_bytes() == (folder / 'b23' / name).read_bytes(), name


def test_unknown_recipe(capsys):
    "A word that is no recipe is answered with the nearest."
    with pytest.raises(SystemExit):
        main(['run', '--recipe', 'b24'])
    assert 'did you mean b23?' in capsys.readouterr().err


def test_a_store_is_judged_as_files_are(folder, tmp_path, capsys):
    "By its own numbers; printed with as many digits as mean something."
    store, model = tmp_path / 'raw.zarr', str(folder / 'b23')
    mock_survey(12, rng=8).write(store)
    tables = tmp_path / 'store.ecsv', tmp_path / 'files.ecsv'
    for source, table in zip((store, folder / 'files'), tables):
        words = ['score', str(source), '--model', model, '--out', str(table)]
        assert main(words) == 0
        said = capsys.readouterr().out
        assert not re.search(r'\d\.\d{6}', said) and ' re ' in said
    one, other = (read_table(table) for table in tables)
    assert one['specobjid'].tolist() == other['specobjid'].tolist()
    np.testing.assert_allclose(one['logp'], other['logp'], rtol=1e-5)
    assert main(['view', str(store), '--out', str(tmp_path / 'view.html')]) == 0
    assert '12 spectra in' in capsys.readouterr().out
    assert main(['score', str(tmp_path), '--model', model]) == 2
    assert 'it holds a store, name that:' in capsys.readouterr().err
    assert main(['score', str(tmp_path / 'no.zarr'), '--model', model]) == 2
    assert 'no.zarr: no such store' in capsys.readouterr().err


def test_names_of_their_own(folder, tmp_path, capsys):
    "Objects that are no plate, date and fibre keep their names, in tables and figures."
    some, named = mock_survey(12, rng=8), tmp_path / 'named.npz'
    names = [f'field 7, no {i}' for i in range(12)]
    columns = dict(wave=some.wave, flux=some.flux, ivar=some.ivar, id=names)
    kinds = {name: np.asarray(some.catalog[name]) for name in ('z', 'class')}
    np.savez(named, **columns, **kinds)
    model, out = str(folder / 'b23'), tmp_path / 'run'
    words = ['run', '--source', str(named), '--model', model, '--out', str(out)]
    assert main(words) == 0
    run = Run.load(out)
    table = run.table('anomalies_all')
    assert set(run.scores['id_text']) <= set(names) and len(table) > 5
    assert set(table['name']) <= set(names)
    assert find_object(run, table['name'][0]) == table['specobjid'][0]
    assert table['name'][0] in (out / 'tables/anomalies_all.mrt').read_text()
    assert f'"name":"{table["name"][0]}"' in (out / 'report.html').read_text()
    words = ['explain', str(named), '--model', model, '--most', '2', '--n', '8']
    assert main([*words, '--segments', 'uniform', '--out', str(tmp_path / 'why')]) == 0
    assert len([*(tmp_path / 'why').glob('re-field_7_no_*.png')]) == 2
    asked = ['run', '--source', str(named), '--model', model, '--out', str(out)]
    capsys.readouterr()
    assert main([*asked, '--set', 'preprocess.z_max=0.3']) == 2
    said = capsys.readouterr().err
    assert 'preprocess.z_max = 0.3 is not what the model has, 0.36' in said
