"""A newcomer needs one entry: what these tests add, nothing else in the library has to know."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import zuko
from conftest import ROOT

from specanom.config import load_config
from specanom.density import (
    METHODS,
    ClassDensity,
    bananas_of,
    check_points,
    find_method,
    make_density,
)
from specanom.pipeline import STAGES, Run
from specanom.relabelling import Density, fit_relabelled


class SplineFlow(ClassDensity, method='test-spline'):
    "A neural spline flow of another library, told the class by a unit vector."

    def _make(self, d):
        seed = torch.random.get_rng_state()
        torch.manual_seed(0)
        flow = zuko.flows.NSF(
            d, context=self.n_classes, transforms=2, hidden_features=(32,)
        )
        torch.random.set_rng_state(seed)
        return flow.double()

    def _given(self, labels):
        return self.flow(
            torch.eye(self.n_classes, dtype=torch.float64)[torch.as_tensor(labels)]
        )

    def fit(self, x, labels, *, validation):
        x, labels = check_points(x, labels, n_classes=self.n_classes)
        self.flow = self._make(x.shape[1])
        self.counts = torch.from_numpy(np.bincount(labels, minlength=self.n_classes))
        optimiser = torch.optim.Adam(self.flow.parameters(), 1e-2)
        for _ in range(60):
            loss = -self._given(labels).log_prob(torch.from_numpy(x)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return self

    @torch.no_grad()
    def log_prob(self, x, labels=None, *, by_member=False):
        x = torch.from_numpy(check_points(x, labels, n_classes=self.n_classes)[0])
        every = (
            [np.full(len(x), c) for c in range(self.n_classes)]
            if labels is None
            else [labels]
        )
        log_p = torch.stack([self._given(c).log_prob(x) for c in every], -1).numpy()
        log_p = log_p if labels is None else log_p[:, 0]
        return log_p[None] if by_member else log_p

    @torch.no_grad()
    def sample(self, labels, *, rng=0):
        noise = np.random.default_rng(rng).normal(
            size=(len(labels), self.state()['size'][0])
        )
        return self._given(labels).transform.inv(torch.from_numpy(noise)).numpy()

    @torch.no_grad()
    def transform(self, x, labels):
        z, logdet = self._given(labels).transform.call_and_ladj(torch.from_numpy(x))
        return z.numpy(), logdet.numpy()

    def state(self):
        weights = self.flow.state_dict()
        size = torch.tensor([len(weights['transform.transforms.0.order'])])
        return weights | dict(counts=self.counts, size=size)

    def set_state(self, state):
        self.counts, (size,) = state.pop('counts'), state.pop('size').tolist()
        self.flow = self._make(size)
        self.flow.load_state_dict(state)


TRAIN, VALID = bananas_of((600, 300, 100), 3, 0), bananas_of((200, 100, 40), 3, 1)
FAR = np.array([[0.0, 30.0, 0.0]])


@pytest.fixture(scope='module')
def density():
    return fit_relabelled(*TRAIN, validation=VALID, n_classes=4, method='test-spline')


def test_density(density, tmp_path):
    "A density of another library is fitted, relabels, scores, is written and read."
    assert type(density.first) is type(density.second) is SplineFlow
    assert density.prior[3] == 0  # nobody gets the class without objects
    score = density.score(np.concatenate([VALID[0], FAR]))
    assert score.argmax() == len(VALID[0]) and np.isfinite(score).all()
    density.save(tmp_path)
    back = Density.load(tmp_path)
    assert type(back.second) is SplineFlow
    assert np.array_equal(back.score(VALID[0]), score[:-1])
    by_member = back.score(VALID[0], by_member=True)
    assert np.array_equal(by_member, score[None, :-1])
    assert np.array_equal(back.classes(VALID[0]), density.classes(VALID[0]))


def test_density_is_learnt_and_whole(density):
    "What the newcomer says of density, transform and draws agrees."
    first, (x, labels) = density.first, VALID
    own, (z, logdet) = first.log_prob(x, labels), first.transform(x, labels)
    assert np.allclose(own, logdet - 0.5 * (z**2).sum(1) - 1.5 * np.log(2 * np.pi))
    assert np.allclose(first.log_prob(x)[np.arange(len(x)), labels], own)
    drawn = first.sample(labels, rng=1)
    noise = np.random.default_rng(1).normal(size=drawn.shape)
    assert np.allclose(first.transform(drawn, labels)[0], noise, atol=1e-4)
    assert (
        own.mean() > first.log_prob(x, np.full(len(x), 3)).mean()
    )  # told the class, it knows more


def test_registry_is_complete():
    "Every method is entered under its name, and is made with any other's options."
    for name in METHODS:
        kind = find_method(name)
        assert issubclass(kind, ClassDensity) and kind.method == name
        assert type(make_density(3, method=name, shrink=0.3, members=2)) is kind


def test_a_configuration_knows_it(tmp_path, monkeypatch):
    "A file may name it, and a run fits it again when its code has changed."
    config = load_config(**{'flow.method': 'test-spline'})

    class Another(SplineFlow):
        def _make(self, d):
            return super()._make(d).float()

    key = Run(tmp_path / 'run', config).key(STAGES['density'])
    assert key == Run(tmp_path / 'run', config).key(STAGES['density'])
    monkeypatch.setitem(METHODS, 'test-spline', Another)
    assert key != Run(tmp_path / 'run', config).key(STAGES['density'])


def test_unfinished_density_is_refused():
    "A part of the contract that is missing is named."

    class Half(ClassDensity):
        def fit(self, x, labels, *, validation):
            return self

    with pytest.raises(TypeError, match='log_prob'):
        Half()


def test_methods_are_part_of_the_key(tmp_path):
    "What is known by name only, a method, changes the keys of what was made with it."
    script = (
        'import json, specanom.pipeline as p, specanom.model as m, specanom.lines as l;'
        'print(json.dumps([p.code_digest(x) for x in (m.fit_densities, l.measure_lines)]))'
    )

    def digests():
        run = [sys.executable, '-c', script]
        env = os.environ | dict(PYTHONPATH=str(tmp_path))
        return json.loads(
            subprocess.check_output(run, cwd=tmp_path, env=env, text=True)
        )

    shutil.copytree(ROOT / 'specanom', tmp_path / 'specanom')
    before = digests()
    with open(tmp_path / 'specanom' / 'warp.py', 'a') as file:
        file.write('\nchanged = True\n')
    after = digests()
    assert before[0] != after[0] and before[1] == after[1]
