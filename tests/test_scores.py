"""A score of one's own is one entry: from there it goes by itself into tables, calibration, benchmark, explanations and help."""

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import uniform_filter1d

from specanom.quiescent import redshift_bins
from specanom.anomalies import top_anomalies
from specanom.cli import main
from specanom.config import load_config
from specanom.detection import our_methods, pae_scores
from specanom.mock import mock_survey
from specanom.model import (
    Model,
    fit_densities,
    fit_networks,
    fit_scores,
    load_members,
    member_split,
    raw_scores,
)
from specanom.groups import explain_spectra
from specanom.pipeline import STAGES, Run
from specanom.preprocess import preprocess, split_ids
from specanom.results import SURE, add_words
from specanom.scores import (
    ANOMALY_SCORES,
    add_score,
    detail_columns,
    find_score,
    known_scores,
    score_weights,
    shown_columns,
)
from specanom.significance import Calibration


def bump(evidence):
    "Largest residual over its noise, smoothed over fifteen bins."
    data = evidence.data
    sigmas = (data.flux - evidence.reconstruction) * np.sqrt(data.ivar)
    return np.abs(uniform_filter1d(sigmas, 15, axis=1, mode='constant')).max(1)


@pytest.fixture
def entered():
    "The entry, for one test."
    add_score('bump', 'largest smoothed residual', bump)
    yield
    ANOMALY_SCORES.pop('bump', None)


SMALL = {
    'autoencoder.hidden': (32,),
    'autoencoder.ae1_epochs': 1,
    'autoencoder.ae2_epochs': 1,
    'flow.epochs': 1,
    'flow.members': 1,
}


@pytest.fixture(scope='module')
def survey():
    return preprocess(mock_survey(1500, rng=0))


@pytest.fixture(scope='module')
def trained(survey):
    "A model that knows no score by name."
    config = load_config('tiny', **SMALL)
    pairs = fit_networks(survey, 1, **dataclasses.asdict(config.autoencoder))
    members = fit_densities(survey, pairs, **dataclasses.asdict(config.flow))
    return Model(members, redshift_bins(survey.catalog['z'], 5))


LEARN = ('contraction', 'scan', 'shapes', 'secondz')


@pytest.fixture(scope='module')
def taught(trained, survey):
    "The same model, whose scores have seen ordinary objects."
    members = [dataclasses.replace(member) for member in trained.members]
    fit_scores(survey, members)
    return dataclasses.replace(trained, members=members)


def calibrated(model, survey):
    "The same with what the scores of normal objects are."
    raw = raw_scores(model.score(survey))
    normal = Calibration().fit(raw, survey.catalog, edges=model.edges)
    return dataclasses.replace(model, calibration=normal)


def test_one_entry(entered, trained, survey, capsys):
    "Everything that lists scores knows the new one."
    model = calibrated(trained, survey)
    table = model.judge(survey[:50])
    assert {'bump', 'bump_1', 'p_bump', 'p_re', 'p_all'} <= set(table.colnames)
    assert table['p_bump'].description == 'p-value of the largest smoothed residual'
    assert model.score(survey[:0]).colnames == model.score(survey[:9]).colnames
    chain = model.members[0].chain
    drawn = chain.decode(chain.encode(survey.flux[:50]))
    sigmas = (survey.flux[:50] - drawn) * np.sqrt(survey.ivar[:50])
    smooth = np.abs(uniform_filter1d(sigmas, 15, axis=1, mode='constant')).max(1)
    assert np.array_equal(table['bump'], smooth)

    judged = survey[:50].catalog.copy()
    for name in table.colnames:
        if name in shown_columns():
            judged[name] = table[name]
    best = top_anomalies(table['bump'], judged, shown=shown_columns())
    assert {'bump', 'p_bump'} <= set(best.colnames)

    assert {'bump', 'bump | z, S/N'} <= set(our_methods())
    assert {'bump', 'bump | z, S/N'} <= set(pae_scores(model, survey[:9]))

    (why,), segments = explain_spectra(model, survey[:1], 'bump')
    assert len(why.weights) == len(segments)
    assert np.isclose(why.score, table['bump'][0], rtol=1e-4)

    with pytest.raises(SystemExit):
        main(['explain', '--help'])
    said = ' '.join(capsys.readouterr().out.split())
    assert 'bump (largest smoothed residual)' in said


def test_what_is_left(entered):
    """Who names no weight shares with the others; the reconstruction error keeps its
    half of what those that learn leave."""
    names = known_scores()
    weights = dict(zip(names, score_weights(names)))
    assert weights['re'] == 0.5 and weights['bump'] == weights['mse'] == 0.05
    every = dict(zip(ANOMALY_SCORES, score_weights(ANOMALY_SCORES)))
    left = 1 - sum(every[name] for name in LEARN)
    assert every['scan'] == find_score('scan').weight
    assert every['re'] == 0.5 * left and every['bump'] == 0.05 * left


def test_calibrations_keep_their_names(entered, trained, survey, tmp_path):
    "One made before the entry judges as before; one made with it is not read without."
    with_it = calibrated(trained, survey)
    with_it.calibration.save(tmp_path / 'with.safetensors')
    del ANOMALY_SCORES['bump']
    with pytest.raises(ValueError, match="with.*'bump', which is not registered"):
        Calibration.load(tmp_path / 'with.safetensors')
    with pytest.raises(ValueError, match="no score 'bump'"):
        with_it.judge(survey[:5])

    before = calibrated(trained, survey)
    before.calibration.save(tmp_path / 'before.safetensors')
    old = before.judge(survey[:50])
    add_score('bump', 'largest smoothed residual', bump)
    loaded = Calibration.load(tmp_path / 'before.safetensors')
    new = dataclasses.replace(trained, calibration=loaded).judge(survey[:50])
    assert 'bump' in new.colnames and 'p_bump' not in new.colnames
    for name in ('p_as', 'p_re', 'p_all'):
        assert np.array_equal(old[name], new[name])


def test_a_run_goes_through_its_scores_again(tmp_path, request):
    "An entry is part of the key of the stage that scores."
    run = Run(tmp_path / 'run', load_config('tiny'))
    scores = STAGES['scores']
    before = run.key(scores)
    request.getfixturevalue('entered')
    assert run.key(scores) != before


@pytest.mark.parametrize(
    'name,said',
    [
        ('re', 'already'),
        ('z', 'another column'),
        ('p_new', 'cannot be'),
        ('new_2', 'cannot be'),
        ('New', 'cannot be'),
        ('', 'cannot be'),
    ],
)
def test_impossible_names(name, said):
    with pytest.raises(ValueError, match=said):
        add_score(name, 'nothing', bump)


def test_what_is_no_score(trained, survey):
    "A score that does not give one number per spectrum is named."
    add_score('latents', 'latents themselves', lambda evidence: evidence.latent)
    try:
        with pytest.raises(ValueError, match=r"'latents' must give .*\(5, 10\)"):
            trained.score(survey[:5])
    finally:
        del ANOMALY_SCORES['latents']


def test_scores_that_learn(trained, taught, survey, tmp_path):
    "Columns, p-values and words where they were learnt; nothing changes where not."
    without = calibrated(trained, survey).judge(survey[:60])
    model = calibrated(taught, survey)
    table = model.judge(survey[:60])
    assert not {*LEARN, *detail_columns(LEARN)} & set(without.colnames)
    shown = {*LEARN, *(f'p_{name}' for name in LEARN), *detail_columns(LEARN)}
    assert shown <= set(table.colnames)
    for name in ('logp', 're', 'mse'):
        assert np.array_equal(table[name], without[name])
    assert model.score(survey[:0]).colnames == model.score(survey[:9]).colnames
    apart = model.score(survey[20:30])
    for name in ('scan', 'secondz', *detail_columns(LEARN)):
        assert np.array_equal(table[name][20:30], apart[name]), name
    for name in ('contraction', 'shapes'):
        assert np.allclose(table[name][20:30], apart[name], rtol=1e-9), name

    table['explanation'] = np.array(['unexplained'] * len(table))
    table['p_scan'][:2] = SURE / 2, SURE * 2
    add_words(table)
    assert 'scan: ' in table['explanation'][0] and ' wide' in table['explanation'][0]
    assert 'scan: ' not in table['explanation'][1]

    (why,), segments = explain_spectra(model, survey[:1], 'scan')
    assert np.isclose(why.score, table['scan'][0], rtol=1e-6)
    with pytest.raises(ValueError, match="has not learnt 'scan', only as"):
        explain_spectra(trained, survey[:1], 'scan')

    taught.save(tmp_path)
    (again,) = load_members(tmp_path, 1)
    for name in LEARN:
        for part, array in taught.members[0].learnt[name].items():
            assert np.array_equal(again.learnt[name][part], array)


def test_learnt_from_what_was_not_held_out(trained, survey, monkeypatch):
    "Each of two members is shown objects that it does not judge, and no others."
    members, shown = [dataclasses.replace(trained.members[0]) for _ in '12'], []

    def look(evidence):
        shown.append(evidence.data.catalog['specobjid'])
        return {}

    monkeypatch.setattr('specanom.model.learn_scores', look)
    fit_scores(survey, members)
    ids = survey.catalog['specobjid']
    for number, some in enumerate(shown):
        side = member_split(split_ids(survey.catalog), number, 2)
        assert set(some) == set(ids[side != 'test'])
