"A survey made of real spectra: its groups, and the command that makes it."

import numpy as np
import pytest
from astropy.table import Table

from specanom.cli import main
from specanom.mock import mock_survey
from specanom.model import FOLD, INNER, member_split
from specanom.noise import mock_sky
from specanom.preprocess import split_ids, split_name
from specanom.resample import GROUPS, SALTS, _even_ids
from specanom.spectra import Spectra
from specanom.write import write_spec


@pytest.mark.parametrize('groups', [20, GROUPS])
def test_every_member_has_all_sides(groups):
    "So few groups must not leave a network without validation by chance."
    assert {0, FOLD, INNER} <= set(SALTS)
    ids = _even_ids(groups)
    assert len(set(ids.tolist())) == groups
    for side in [split_name(ids), *(member_split(ids, m, 4) for m in range(4))]:
        assert set(side.tolist()) == {'train', 'valid', 'test'}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "Files of forty galaxies and of four sky fibres."
    where = tmp_path_factory.mktemp('real')
    survey = mock_survey(640, rng=3)
    best = np.argsort(-np.asarray(survey.catalog['sn_median']))[:40]
    write_spec(survey[np.sort(best)], where / 'galaxies')
    sky = mock_sky(60, rng=1)
    sky.catalog['plate'] += 5000
    sky.catalog['specobjid'] += np.uint64(1)
    write_spec(sky, where / 'sky')
    return where


def test_command(folder, tmp_path, capsys):
    out = tmp_path / 'survey.zarr'
    words = ['resample', folder, '--n', 100, '--min-sn', 8, '--out', out]
    assert main([str(word) for word in words]) == 0
    said = capsys.readouterr().out
    assert '60 sky fibres' in said and f'specanom run --source {out}' in said
    made, truth = Spectra.read(out), Table.read(tmp_path / 'survey_truth.ecsv')
    assert len(made) == len(truth) == 100
    assert (truth['specobjid'] == made.catalog['specobjid']).all()
    assert (split_ids(made.catalog) == truth['group']).all()
    assert all(str(name).endswith('.fits') for name in truth['true_template_1'])


def test_errors(folder, tmp_path, capsys):
    "One sentence that says what is missing."
    out = str(tmp_path / 'survey.zarr')
    for words, sentence in (
        (['--min-sn', '900'], 'can be templates'),
        (['--varied', '2'], 'a part of the survey'),
    ):
        assert main(['resample', str(folder), '--out', out, *words]) == 2
        err = capsys.readouterr().err
        assert sentence in err and 'Traceback' not in err
    assert not (tmp_path / 'survey.zarr').exists()
