"""Augmentation: the possible results for an image, and independent random numbers per image."""

import pytest
import torch
from torch.nn.functional import pad

from backhand.config import schema
from backhand.data.augmentation import AUGMENTATIONS, augment

BATCH = 64
SHAPES = [(1, 28, 28), (3, 32, 32), (1, 8, 8), (2, 16, 40)]
DTYPES = [torch.uint8, torch.float32]
PART = {"shift": 14, "crop": 8}


def noise(shape, dtype=torch.uint8, batch=BATCH):
    """A batch (B, D) without zeros; zeros in the result are padding."""
    return torch.randint(1, 256, (batch, shape[0] * shape[1] * shape[2])).to(dtype)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def offsets(name, x, changed, shape):
    """For each image, all allowed shifts (down, right) that give `changed`."""
    _, height, width = shape
    down, right = height // PART[name], width // PART[name]
    padded = pad(x.view(-1, *shape), (right, right, down, down))
    found = [[] for _ in x]
    for i in range(2 * down + 1):
        for j in range(2 * right + 1):
            moved = padded[:, :, i : i + height, j : j + width]
            for k in (moved == changed.view(-1, *shape)).flatten(1).all(1).nonzero().flatten().tolist():
                found[k].append((down - i, right - j))
    return found


def test_the_schema_allows_exactly_these_augmentations():
    assert tuple(AUGMENTATIONS) == schema.AUGMENTATIONS


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", PART)
def test_every_image_is_the_original_shifted_within_the_limits(name, shape, dtype):
    x = noise(shape, dtype)
    found = offsets(name, x, augment(name, x, shape, seeded(0)), shape)
    assert all(len(each) == 1 for each in found)


@pytest.mark.parametrize("shape", SHAPES[:2])
@pytest.mark.parametrize("name", PART)
def test_images_are_shifted_independently_and_all_shifts_are_equally_likely(name, shape):
    x = noise(shape, batch=1).expand(2000, -1)
    found = offsets(name, x, augment(name, x, shape, seeded(0)), shape)
    counts = torch.tensor([found.count([each]) for each in sorted({each for [each] in found})])
    most = 2 * (shape[1] // PART[name]) + 1
    assert len(counts) == most**2
    expected = 2000 / most**2
    assert (
        (counts - expected) ** 2 / expected
    ).sum() < 1.6 * most**2  # chi-squared: mean most², 5 sigma and more above


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_about_half_of_the_images_are_flipped_and_the_others_unchanged(shape, dtype):
    x = noise(shape, dtype, batch=400)
    changed = augment("flip", x, shape, seeded(0))
    mirrored = x.view(-1, *shape).flip(-1).flatten(1)
    is_mirrored, is_same = (changed == mirrored).all(1), (changed == x).all(1)
    assert (is_mirrored ^ is_same).all()
    assert 150 < is_mirrored.sum() < 250


def test_none_changes_nothing_and_draws_no_random_number():
    x, generator = noise((1, 28, 28)), seeded(0)
    before = generator.get_state()
    assert augment("none", x, (1, 28, 28), generator).data_ptr() == x.data_ptr()
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_shape_and_dtype_stay_and_the_input_is_not_modified(name, dtype):
    x = noise((3, 32, 32), dtype)
    before = x.clone()
    changed = augment(name, x, (3, 32, 32), seeded(0))
    assert (changed.shape, changed.dtype, changed.is_contiguous()) == (x.shape, dtype, True)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", [name for name in AUGMENTATIONS if name != "none"])
def test_only_the_given_generator_is_used(name):
    x = noise((1, 28, 28))
    state = torch.get_rng_state()
    first = augment(name, x, (1, 28, 28), seeded(1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(augment(name, x, (1, 28, 28), seeded(1)), first)
    assert not torch.equal(augment(name, x, (1, 28, 28), seeded(2)), first)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_float_and_uint8_inputs_are_augmented_alike(name):
    x = noise((3, 32, 32))
    bytes_, numbers = (augment(name, each, (3, 32, 32), seeded(3)) for each in (x, x.float()))
    assert torch.equal(bytes_.float(), numbers)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_batch_may_have_one_image(name):
    assert augment(name, noise((3, 32, 32), batch=1), (3, 32, 32), seeded(0)).shape == (1, 3072)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_gpu_computes_the_same_images(name, dtype):
    x = noise((3, 32, 32), dtype)
    there = augment(name, x.cuda(), (3, 32, 32), seeded(4))
    assert there.is_cuda
    assert torch.equal(there.cpu(), augment(name, x, (3, 32, 32), seeded(4)))
