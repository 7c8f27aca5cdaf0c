"""The compiled engine within autograd, threads and processes."""

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from splat_scenes import Scene, Shape, instruction_sets, leaves, random_scene, render
from torch import Tensor

from recon.rasterize import Rendered

pytestmark = pytest.mark.skipif(not instruction_sets(), reason="the compiled engine was not built")

SIZE = 40
SHAPE = Shape(200, 2, 3, SIZE, SIZE)


def loss_of(picture: Rendered) -> Tensor:
    return picture.image.square().sum() + picture.depth.mean() + picture.alpha.sin().sum()


def gradients(scene: Scene) -> tuple[Tensor, ...]:
    inputs = leaves(scene)
    return torch.autograd.grad(loss_of(render(inputs, SIZE, SIZE)), list(inputs.values()))


def assert_equal(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> None:
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.fixture
def threads():
    """Sets torch's number of threads, and back again."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_two_forwards_before_a_backward():
    one, two = random_scene(SHAPE, seed=1), random_scene(SHAPE, seed=2)
    first, second = leaves(one), leaves(two)
    loss_first, loss_second = (loss_of(render(s, SIZE, SIZE)) for s in (first, second))
    second_grads = torch.autograd.grad(loss_second, list(second.values()))
    first_grads = torch.autograd.grad(loss_first, list(first.values()))
    assert_equal(first_grads, gradients(one))
    assert_equal(second_grads, gradients(two))


def test_one_scene_rendered_twice_adds_up():
    scene = random_scene(SHAPE, seed=1)
    inputs = leaves(scene)
    (loss_of(render(inputs, SIZE, SIZE)) + loss_of(render(inputs, SIZE, SIZE))).backward()
    for leaf, once in zip(inputs.values(), gradients(scene), strict=True):
        torch.testing.assert_close(leaf.grad, 2 * once)


def test_a_retained_graph_gives_the_same_again():
    inputs = leaves(random_scene(SHAPE, seed=3))
    loss = loss_of(render(inputs, SIZE, SIZE))
    first = torch.autograd.grad(loss, list(inputs.values()), retain_graph=True)
    assert_equal(first, torch.autograd.grad(loss, list(inputs.values())))
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, list(inputs.values()))


def test_no_grad_and_detached_inputs_build_no_graph():
    inputs = leaves(random_scene(SHAPE))
    with torch.no_grad():
        assert not render(inputs, SIZE, SIZE).image.requires_grad
    with torch.inference_mode():
        render(random_scene(SHAPE), SIZE, SIZE)
    assert not render({k: t.detach() for k, t in inputs.items()}, SIZE, SIZE).image.requires_grad


@pytest.mark.parametrize("name", ["means", "colors", "viewmats", "backgrounds"])
def test_a_single_input_that_wants_gradients(name):
    scene = random_scene(SHAPE, seed=4)
    leaf = scene[name].clone().requires_grad_()
    (alone,) = torch.autograd.grad(loss_of(render(scene | {name: leaf}, SIZE, SIZE)), leaf)
    together = dict(zip(scene, gradients(scene), strict=True))
    assert torch.equal(alone, together[name])


@pytest.mark.parametrize("field", Rendered._fields)
def test_a_loss_on_one_picture_alone(field):
    """The other pictures' gradients are None inside, which stands for zero."""
    scene = random_scene(SHAPE, seed=5)
    one, all_three = leaves(scene), leaves(scene)
    getattr(render(one, SIZE, SIZE), field).square().sum().backward()
    picture = render(all_three, SIZE, SIZE)
    zeros = {name: getattr(picture, name).sum() * 0 for name in Rendered._fields if name != field}
    (getattr(picture, field).square().sum() + sum(zeros.values())).backward()
    for name, leaf in one.items():
        assert torch.equal(leaf.grad, all_three[name].grad)


def test_pictures_changed_in_place_are_noticed():
    inputs = leaves(random_scene(SHAPE))
    picture = render(inputs, SIZE, SIZE)
    loss = picture.image.sum()
    picture.image.data.mul_(1)  # legal: autograd does not look
    with torch.no_grad():
        picture.image.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_gradients_of_gradients_are_refused():
    inputs = leaves(random_scene(SHAPE))
    loss = loss_of(render(inputs, SIZE, SIZE))
    (first,) = torch.autograd.grad(loss, [inputs["means"]], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_results_are_the_same_again_and_alike_for_any_number_of_threads(threads):
    scene = random_scene(Shape(3000, 2, 3, 130, 110), ("plain", "needle"), seed=6)

    def run(count: int) -> tuple[Tensor, ...]:
        threads(count)
        inputs = leaves(scene)
        picture = render(inputs, 130, 110)
        return *picture, *torch.autograd.grad(loss_of(picture), list(inputs.values()))

    once = run(1)
    for count in (1, 2, 3, 8):
        found = run(count)
        assert_equal(found, run(count))
        for a, b in zip(once, found, strict=True):
            assert (a - b).norm() <= 1e-4 * a.norm()


def test_many_threads_may_call_at_once(threads):
    threads(2)
    scenes = [random_scene(SHAPE, seed=seed) for seed in range(4)]
    expected = [gradients(scene) for scene in scenes]
    wrong = []

    def work(index: int) -> None:
        for _ in range(15):
            found = gradients(scenes[index])
            if not all(torch.equal(a, b) for a, b in zip(found, expected[index], strict=True)):
                wrong.append(index)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_one_graph_may_run_backward_in_two_threads():
    inputs = leaves(random_scene(SHAPE, seed=7))
    loss = loss_of(render(inputs, SIZE, SIZE))
    expected = torch.autograd.grad(loss, list(inputs.values()), retain_graph=True)
    found = []

    def work() -> None:
        for _ in range(10):
            found.append(torch.autograd.grad(loss, list(inputs.values()), retain_graph=True))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 20
    for grads in found:
        assert_equal(grads, expected)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_nothing_leaks(threads):
    """Graphs used, dropped without a backward, and kept for a while: memory stays where it was."""
    threads(2)
    scene = random_scene(Shape(4000, 2, 3, 64, 64), seed=8)

    def resident() -> int:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def work(times: int) -> None:
        inputs = leaves(scene)
        for index in range(times):
            loss = loss_of(render(inputs, 64, 64))
            if index % 2:
                torch.autograd.grad(loss, list(inputs.values()))

    work(30)
    before = resident()
    work(300)  # one call that leaked its frame would leak 0.5 MB
    assert resident() - before < 16 * 2**20


def test_memory_is_handed_on_from_call_to_call():
    from recon.rasterize import cpu_library

    for _ in range(3):
        gradients(random_scene(SHAPE, seed=9))
    stored = cpu_library.load().recon_stored_bytes()
    for _ in range(5):
        gradients(random_scene(SHAPE, seed=9))
    assert cpu_library.load().recon_stored_bytes() == stored


def test_the_floating_point_mode_stays(threads):
    """Denormals survive, in this thread and in the pool: no -ffast-math was linked in."""
    threads(2)
    gradients(random_scene(SHAPE))
    assert (torch.tensor([1e-40]) * 0.5).item() > 0
    code = (
        "import ctypes, sys, importlib.util, torch;"
        "torch.set_num_threads(1);"
        "from recon.rasterize import cpu_library; cpu_library.load();"
        "sys.exit(0 if (torch.tensor([1e-40]) * 0.5).item() > 0 else 1)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0


def _render_in_child(scene: Scene, answers) -> None:
    torch.set_num_threads(2)
    answers.put(render(scene, SIZE, SIZE).image.double().sum().item())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_forked_child_can_render(threads):
    """As data loaders' workers do: the pool's threads do not exist in the child."""
    threads(2)
    scene = random_scene(SHAPE, seed=10)
    expected = render(scene, SIZE, SIZE).image.double().sum().item()
    threads(1)  # torch's own threads do not survive a fork
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_render_in_child, args=(scene, answers))
    child.start()
    assert answers.get(timeout=60) == expected
    child.join()
