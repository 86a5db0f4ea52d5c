"The same training on a GPU, where there is one."

import numpy as np
import pytest
import torch
from conftest import SMALL

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason='no CUDA device here: what a GPU does is tested where there is one',
)


@pytest.fixture(scope='module')
def sets():
    from specanom.mock import mock_survey
    from specanom.preprocess import preprocess, split

    return split(preprocess(mock_survey(1500, rng=0)))


def test_auto_is_the_gpu():
    from specanom.training import pick_device

    assert pick_device('auto').type == 'cuda' and pick_device('cpu').type == 'cpu'


def test_pair(sets):
    "A pair trained on the GPU is as good as one trained on the CPU, and ends on the CPU."
    from specanom.autoencoder import fit_pair

    train, valid, test = sets
    losses = {}
    for device in ('cpu', 'cuda'):
        chain = fit_pair(
            train,
            valid,
            hidden=(128, 64),
            batch_size=32,
            ae1_epochs=8,
            ae2_epochs=4,
            device=device,
        )
        assert (
            next(chain.ae1.parameters()).device.type == 'cpu'
            and np.isfinite(chain.encode(test.flux)).all()
        )
        losses[device] = min(h['valid'] for h in chain.ae1.history)
    assert losses['cuda'] < 1.5 * losses['cpu']


@pytest.mark.parametrize('method', ['warp', 'sliced', 'published'])
def test_density(method):
    "A density fitted on the GPU is the one fitted on the CPU, and ends on the CPU."
    from specanom.density import bananas, make_density

    data, checked = bananas(3000, 5, rng=0), bananas(800, 5, rng=1)
    fewer = dict(epochs=5, members=1) if method == 'warp' else dict(max_layers=5)
    found = {}
    for device in ('cpu', 'cuda'):
        density = make_density(method=method, n_classes=3, quiet=True, **fewer)
        density.device = device
        density.fit(*data, validation=checked)
        found[device] = density.log_prob(*checked)
    np.testing.assert_allclose(found['cuda'], found['cpu'], rtol=1e-3)


def test_run(tmp_path):
    "The chain runs with device = auto."
    from specanom.config import load_config
    from specanom.pipeline import run

    assert np.isfinite(
        run(load_config('tiny', **SMALL), tmp_path / 'run').scores['logp']
    ).all()
