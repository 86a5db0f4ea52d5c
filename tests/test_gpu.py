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
    from specanom.autoencoder import pick_device

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


def test_run(tmp_path):
    "The chain runs with device = auto."
    from specanom.config import load_config
    from specanom.pipeline import run

    assert np.isfinite(
        run(load_config('tiny', **SMALL), tmp_path / 'run').scores['logp']
    ).all()
