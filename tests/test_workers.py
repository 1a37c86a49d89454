"""Several workers: the same batches, the same result, one writer.

What happens when one of them goes.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file
from training import FACTS, make

from tfbig import launch, train
from tfbig.core import workers
from tfbig.core.errors import UserError
from tfbig.core.run import Run
from tfbig.engine import batches, checkpoint, manifests, processes, setup
from tfbig.engine.strategy import _lost

pytestmark = pytest.mark.long

CNN = (
    "mnist_cnn",
    "model.filters=4,8",
    "model.units=16",
    "train.batch_size=25",
    "optim.optimizer=sgd",
    "optim.learning_rate=0.02",
)
BRIEF = (
    "optim.schedule=constant",
    "optim.warmup=0",
    "train.evaluate_every=100",
    "train.final_split=none",
    "device.block=5",
    "data.validation=500",
)


def run(count, path, *arguments, code=0):
    """A training by `count` workers through the command.

    By one, through the plain train command, in this process.
    """
    words = [*map(str, arguments), *([] if "--resume" in arguments else [f"run={path}"])]
    if count == 1:
        assert train.main(words) == code
        return
    start = ["-m", "tfbig.launch", "--workers", str(count), "--", "train", *words]
    done = subprocess.run([sys.executable, *start], capture_output=True, text=True, timeout=280)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr


def end(path, step):
    folder = path / "checkpoints" / checkpoint.folder_name(step)
    return {**load_file(folder / checkpoint.WEIGHTS), **load_file(folder / checkpoint.OPTIMIZER)}


def loss(path):
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [line["metrics"]["loss"]["value"] for line in lines if line["kind"] == "evaluation"][-1]


def test_place(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert workers.place() == workers.Place() and workers.place().is_chief
    with pytest.raises(UserError, match="device.strategy=multi_worker: expected TF_CONFIG="):
        workers.place("multi_worker")
    monkeypatch.setenv("TF_CONFIG", processes.tf_config(["a:1", "b:1"], 1))
    assert (workers.place().index, workers.place().count, workers.place("single").count) == (
        1,
        2,
        1,
    )
    junk = (
        '{"cluster": {"worker": "host:1"}, "task": {"type": "worker", "index": 0}}',
        processes.tf_config(["a:1", "a:1"], 0),
    )
    for text in (
        *junk,
        "{",
        "[]",
        processes.tf_config(["a:1", "b:1"], 2),
        '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "chief", "index": 0}}',
    ):
        monkeypatch.setenv("TF_CONFIG", text)
        with pytest.raises(UserError, match="TF_CONFIG: expected "):
            workers.place()


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "count", "together"),
    [(24, 1, 2, 1), (24, 3, 4, 1), (10, 1, 3, 1), (4, 2, 2, 1), (10, 1, 3, 2), (12, 2, 2, 2)],
)
def test_shares_are_the_batch(batch_size, accumulate, count, together):
    whole = batch_size // accumulate
    shares = [workers.Share.of(whole, i, count, together) for i in range(count)]
    places = [batches.share_offsets(batch_size, accumulate, share) for share in shares]
    assert (
        sorted(np.concatenate(places)) == list(range(batch_size))
        and max(map(len, places)) - min(map(len, places)) <= accumulate * together
    )
    for each in places:  # whole groups, in their order
        groups = each.reshape(-1, together)
        assert (groups == groups[:, :1] + np.arange(together)).all()
        assert not (groups[:, 0] % together).any()
    task = make().task.bind(make().model, make().data, FACTS)
    whole = batches.Slabs(task, batch_size=batch_size, block=2, seed=3).at(4)[0]
    for each in places:
        part = batches.Slabs(task, batch_size=batch_size, block=2, seed=3, offsets=each).at(4)[0]
        for name in whole:
            np.testing.assert_array_equal(part[name], whole[name].numpy()[:, each])


def test_evaluation_parts_are_the_split():
    task = make().task.bind(make().model, make("data.validation=50").data, FACTS)
    parts = [
        [positions for positions, _ in batches.evaluation_batches(task, "validation", 20, i, 4)]
        for i in range(4)
    ]
    assert [[len(positions) for positions in part] for part in parts] == [[20], [20], [10], [0]]
    assert np.concatenate(sum(parts, [])).tolist() == list(range(50))


def test_same_result_for_any_number(tmp_path):
    """Batch normalisation, Dropout and random shifts included.

    Repeated, the same to the last bit; resumed by fewer and by more.
    """
    run(1, tmp_path / "one", *CNN, *BRIEF, "train.length=4")
    for name, count in (("two", 2), ("again", 2)):
        run(count, tmp_path / name, *CNN, *BRIEF, "train.length=4")
    run(3, tmp_path / "changing", *CNN, *BRIEF, "train.length=2")
    run(1, None, "--resume", tmp_path / "changing", "train.length=3")
    run(2, None, "--resume", tmp_path / "changing", "train.length=4")
    one, two, again, changing = (
        end(tmp_path / name, 4) for name in ("one", "two", "again", "changing")
    )
    for name in one:
        np.testing.assert_array_equal(two[name], again[name])
        np.testing.assert_allclose(one[name], two[name], rtol=1e-3, atol=2e-4, err_msg=name)
        np.testing.assert_allclose(one[name], changing[name], rtol=1e-3, atol=2e-4, err_msg=name)
    assert loss(tmp_path / "one") == pytest.approx(loss(tmp_path / "two"), rel=1e-3)
    assert (
        not list((tmp_path / "two" / "checkpoints").glob(".*"))
        and (tmp_path / "two" / "DONE").exists()
    )


IN_FLOAT64 = """
import sys
from tfbig import train
from tfbig.engine import setup
setup.POLICIES = {"float32": "float64"}
sys.exit(train.main(sys.argv[1:]))
"""


def test_fifty_steps_differ_by_rounding_alone(tmp_path, monkeypatch):
    """With 53 bits instead of 24, fifty steps of unequal shares, Dropout and shifts end equal to
    twelve digits.

    In float32 a unit that rounding pushes over its threshold soon makes a difference that can be
    seen.
    """
    words = ["mnist_cnn", *CNN[1:4], *BRIEF[2:], "train.length=50"]
    command = [sys.executable, "-c", IN_FLOAT64, *words, f"run={tmp_path / '2'}"]
    started = [
        subprocess.Popen(command, env={**os.environ, **own}, stderr=subprocess.PIPE, text=True)
        for own in processes.environments(2)
    ]
    monkeypatch.setattr(setup, "POLICIES", {"float32": "float64"})
    run(1, tmp_path / "1", *words)
    said = [process.communicate(timeout=200)[1] for process in started]
    assert all(process.returncode == 0 for process in started), said
    one, two = end(tmp_path / "1", 50), end(tmp_path / "2", 50)
    assert {str(value.dtype) for value in one.values()} == {"float64", "int64"}
    for name in one:
        np.testing.assert_allclose(
            one[name], two[name], rtol=1e-8, atol=1e-10 * np.abs(one[name]).max(), err_msg=name
        )
    assert loss(tmp_path / "1") == pytest.approx(loss(tmp_path / "2"), rel=1e-6)


BATCH_NORMALIZATION = """
import json, sys, keras, numpy as np, tensorflow as tf
from tfbig.core.workers import Share, computing, place
from tfbig.engine.strategy import Workers, join
workers, share = Workers(place()), Share.of(7, place().index, 2)
rows, random = slice(share.first, share.first + share.size), np.random.default_rng(1)
# A channel whose mean is large beside its deviation, as its moving mean says, and one that is
# constant.
x = (random.normal(size=(7, 4, 3)) * [1, 0.1, 0] + [0, 20, 3]).astype(np.float32)
slope = random.normal(size=(7, 4, 3)).astype(np.float32)

def made(policy, joined):
    keras.utils.set_random_seed(0)
    norms = [keras.layers.BatchNormalization(dtype=policy, name=f"norm_{i}") for i in (1, 2)]
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, norms[1](keras.layers.Dense(3, dtype=policy)(norms[0](inputs))))
    norms[0].moving_mean.assign([0, 19.9, 3])
    if joined:
        assert join(model, sync_batch_norm=True)
    return model

def gradients(model, x, slope):
    x = tf.identity(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = model(x, training=True)
        loss = tf.reduce_sum(tf.cast(y, tf.float32) * slope)
    return y, *tape.gradient(loss, [x, *(v.value for v in model.trainable_variables)])

found = {}
for policy in ("float32", "mixed_float16", "mixed_bfloat16"):
    model, alone = made(policy, True), made(policy, False)

    @tf.function(autograph=False)
    def step():
        def part():
            with computing(share):
                y, dx, *rest = gradients(model, x[rows], slope[rows])
            return y, dx, *workers.total(rest)
        return workers.run(part)

    for _ in range(3):
        ours, whole = step(), gradients(alone, x, slope)
    pairs = [*zip(ours, [whole[0][rows], whole[1][rows], *whole[2:]])]
    pairs += [*zip(model.non_trainable_variables, alone.non_trainable_variables)]

    def far(a, b):
        return float(np.max(np.abs(np.float32(a) - np.float32(b)) / (1 + np.abs(np.float32(b)))))

    nodes = step.get_concrete_function().graph.as_graph_def().node
    reduced = sum(node.op.startswith("CollectiveReduce") for node in nodes)
    found[policy] = [max(far(a, b) for a, b in pairs), reduced]
print(json.dumps(found))
"""


def test_batch_normalization_over_workers():
    """Outputs, gradients and moving statistics of unequal shares are the whole batch's.

    Each layer sums once forwards, once backwards.
    """
    started = [
        subprocess.Popen(
            [sys.executable, "-c", BATCH_NORMALIZATION],
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            text=True,
        )
        for own in processes.environments(2)
    ]
    bounds = {"float32": 5e-4, "mixed_float16": 3e-3, "mixed_bfloat16": 3e-2}
    try:
        for process in started:
            found = json.loads(process.communicate(timeout=120)[0])
            assert all(
                difference < bounds[policy] and sums == 2 * 2 + 1
                for policy, (difference, sums) in found.items()
            ), found
    finally:
        for process in started:
            process.kill()


def test_every_part_of_the_step(tmp_path):
    """Compiled steps, micro-batches, clipping, moving averages, Muon and float16 with loss scaling,
    by two workers that recompute.
    """
    settings = (
        "mnist_mlp",
        "train.batch_size=16",
        "train.accumulate=2",
        "optim.clip_norm=0.5",
        "train.ema=0.9",
        "optim.optimizer=muon",
    )
    settings += (
        "device.precision=float16",
        "device.jit=true",
        "optim.momentum=none",
        "model.dropout=0.2",
        "model.units=32,32,32",
        *BRIEF,
        "train.length=8",
    )
    for count in (1, 2):
        run(count, tmp_path / str(count), *settings, f"train.remat={str(count == 2).lower()}")
    one, two = end(tmp_path / "1", 8), end(tmp_path / "2", 8)
    assert all(np.isfinite(value).all() for value in two.values())
    assert (
        loss(tmp_path / "1") == pytest.approx(loss(tmp_path / "2"), rel=2e-2)
        and one["loss_scale"] == two["loss_scale"]
    )


def test_parts_of_a_batch_with_statistics_of_all(tmp_path):
    """Accumulation beside synchronised batch normalisation, whose sums stand inside the loop over
    the parts.
    """
    for count in (1, 2):
        run(
            count,
            tmp_path / str(count),
            "mnist_cnn",
            *CNN[1:3],
            "train.batch_size=26",
            "train.accumulate=2",
            *CNN[4:],
            *BRIEF,
            "train.length=3",
        )
    one, two = end(tmp_path / "1", 3), end(tmp_path / "2", 3)
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-3, atol=2e-4, err_msg=name)


def test_what_goes_on_is_looked_at_before_workers_start(tmp_path):
    path = tmp_path / "run"
    experiment = make("train.length=4")
    made = Run.create(path, experiment, experiment)
    for words, message in (
        (["device.strategy=single"], "each worker would train alone"),
        (["seed=3"], "seed: cannot change in a run that goes on"),
    ):
        with pytest.raises(UserError, match=message):
            launch.door(["--workers", "2", "--", "train", "--resume", str(path), *words])
    with made.lock(), pytest.raises(UserError, match="is being trained by another process"):
        launch.door(["--workers", "2", "--", "train", "--resume", str(path)])
    assert Run.open(path).experiment == experiment


def start_long(tmp_path, count=2):
    path = tmp_path / "run"
    words = [
        "mnist_mlp",
        "train.length=500_000",
        "train.evaluate_every=200",
        "data.validation=500",
        f"run={path}",
    ]
    command = [sys.executable, "-m", "tfbig.launch", "--workers", str(count), "--", "train", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(1200):
        if (path / "checkpoints").is_dir() and checkpoint.steps(path / "checkpoints"):
            break
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    return path, process


def pid_of_worker(path, index):
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command, environment = (entry / "cmdline").read_text(), (entry / "environ").read_text()
            if (
                f"run={path}" in command
                and "tfbig.train" in command
                and f'"index": {index}' in environment
            ):
                return int(entry.name)
    raise AssertionError("no such worker")


def test_sigterm_saves_once_for_all(tmp_path):
    path, process = start_long(tmp_path)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and f"--resume {path}" in err and "Traceback" not in err
    step = checkpoint.steps(path / "checkpoints")[-1]
    run(2, None, "--resume", path, f"train.length={step + 5}")
    assert checkpoint.steps(path / "checkpoints")[-1] == step + 5


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_worker_is_named_and_all_end(tmp_path, signum):
    path, process = start_long(tmp_path)
    os.kill(pid_of_worker(path, 1), signum)
    started = time.monotonic()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in err
    assert (
        "error: worker 0: worker 1 (127.0.0.1:" in err
        and "--resume" in err
        and time.monotonic() - started < 60
    )
    run(1, None, "--resume", path, f"train.length={checkpoint.steps(path / 'checkpoints')[-1] + 2}")


def test_a_stopped_chief_is_named_and_all_end(tmp_path):
    path, process = start_long(tmp_path)
    os.kill(pid_of_worker(path, 0), signal.SIGSTOP)
    started = time.monotonic()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in err
    assert (
        "error: worker 1: worker 0 (127.0.0.1:" in err
        and "ended: worker 0 with the others" in err
        and time.monotonic() - started < 60
    )


def test_lost_worker_is_found_in_the_words_of_tensorflow():
    place = workers.Place(0, ("h0:1", "h1:1", "h2:1"))
    assert "worker 2 (h2:1) does not answer" in str(
        _lost(place, Exception("unhealthy: /job:worker/replica:0/task:2 stopped"))
    )
    assert "another worker does not answer" in str(_lost(place, Exception("Socket closed")))
    silent = Exception(
        "aborted by: Deadline Exceeded\n\nRPC: /tensorflow.CoordinationService/Heartbeat"
    )
    assert "worker 0 (h0:1) does not answer" in str(
        _lost(workers.Place(2, place.addresses), silent)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "2"], "expected -- train and what it trains"),
        (
            ["--workers", "2", "--", "evaluate", "a"],
            "expected -- train and what it trains, such as",
        ),
        (["--workers", "0", "--", "train", "mnist_mlp", "run=a"], "--workers: expected at least 1"),
        (["--workers", "2", "--", "train", "mnist_mlp"], "expected run=DIR after -- train"),
        (["--workers", "2", "--", "train", "mnist_mlp", "run=a", "sede=1"], "Did you mean seed?"),
        (
            ["--workers", "2", "--", "train", "mnist_mlp", "run=a", "device.strategy=mirrored"],
            "starts workers of its own, python -m tfbig.train does",
        ),
        (
            ["--workers", "2", "--", "train", "mnist_mlp", "run=a", "device.strategy=single"],
            "each worker would train alone",
        ),
        (
            ["--workers", "33", "--", "train", "mnist_mlp", "run=a", "train.accumulate=2"],
            "expected at most train.batch_size / train.accumulate = 32,",
        ),
        (["--workers", "2", "--", "train", "mnist_mlp", "run="], "expected run=DIR after -- train"),
        (
            ["--workers", "2", "--", "train", "--resume=nope"],
            "Received: nope, which does not exist",
        ),
        (
            ["--workers", "2", "--", "train", "mnist_mlp", "run=a", "--dry-run"],
            "expected a training after --",
        ),
        (
            [
                "--workers",
                "2",
                "--print",
                "slurm",
                "--port",
                "-5",
                "--",
                "train",
                "mnist_mlp",
                "run=a",
            ],
            "--port: expected 1 to 65535",
        ),
        (
            [
                "--workers",
                "2",
                "--print",
                "kubernetes",
                "--image",
                "",
                "--",
                "train",
                "mnist_mlp",
                "run=a",
            ],
            "--image: expected the name",
        ),
        (
            ["--workers", "2", "--print", "kubernetes", "--", "train", "mnist_mlp", "run=runs/a"],
            "expected a directory in /runs, where the pods' shared volume is",
        ),
        (
            ["--workers", "2", "--print", "kubernetes", "--", "train", "--resume", "/run/a"],
            "Received: /run/a.",
        ),
        (
            [
                "--workers",
                "2",
                "--print",
                "kubernetes",
                "--",
                "train",
                "mnist_mlp",
                "run=/runs/../a",
            ],
            "Received: /runs/../a.",
        ),
        (
            [
                "--workers",
                "2",
                "--print",
                "slurm",
                "--",
                "train",
                "sotu_gpt",
                "run=a",
                "task.prompt=a\nWORKER\nb",
            ],
            "holds a line break or another control",
        ),
        (["--workers", "2", "train", "mnist_mlp", "run=a"], "expected -- before train"),
    ],
)
def test_mistakes(arguments, message, capsys):
    assert launch.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_accelerators_are_dealt_out(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [own["CUDA_VISIBLE_DEVICES"] for own in processes.environments(2)] == ["3", "5"]
    with pytest.raises(
        UserError, match="expected at most one for each of 2 accelerators. Received: 3"
    ):
        processes.environments(3)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "TF_NUM_INTRAOP_THREADS" in processes.environments(2)[1]


def stand_in(folder, name, body):
    """A program of this name that does something else."""
    (folder / name).write_text(f"#!/bin/bash\n{body}\n")
    (folder / name).chmod(0o755)


def test_kubernetes(tmp_path, capsys):
    """The manifest parses, and its script runs with a stand-in for Python."""
    assert (
        launch.main(
            [
                "--workers",
                "3",
                "--print",
                "kubernetes",
                "--image",
                "reg/tfbig:1",
                "--",
                "train",
                "mnist_cnn",
                "seed=1",
                "run=/runs/a",
            ]
        )
        == 0
    )
    made = yaml.safe_load(capsys.readouterr().out)
    job = made["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (made["kind"], made["apiVersion"], job["parallelism"], job["completions"]) == (
        "JobSet",
        "jobset.x-k8s.io/v1alpha2",
        3,
        3,
    )
    container = job["template"]["spec"]["containers"][0]
    assert container["image"] == "reg/tfbig:1"
    stand_in(tmp_path, "python", 'echo "$TF_CONFIG"; echo "$@"')
    environment = {"JOB_COMPLETION_INDEX": "2", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        container["command"], env=environment, capture_output=True, text=True, check=True
    )
    config, said = done.stdout.splitlines()
    assert json.loads(config)["task"] == {"type": "worker", "index": 2}
    assert (
        json.loads(config)["cluster"]["worker"][2]
        == "tfbig-mnist-cnn-a-704e19-worker-0-2.tfbig-mnist-cnn-a-704e19:2222"
    )
    assert said == "-m tfbig.train mnist_cnn seed=1 run=/runs/a"


def test_slurm(tmp_path):
    """The script runs, with stand-ins for Slurm's own two commands."""
    for name, body in (
        ("scontrol", "printf 'n1\\nn2\\n'"),
        ("srun", 'shift; SLURM_PROCID=1 "$@"'),
        ("python", 'echo "$TF_CONFIG" "$@"'),
    ):
        stand_in(tmp_path, name, body)
    text = manifests.slurm(2, ["train", "mnist_cnn", "run=a b"], 2222, "")
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "n[1-2]",
    }
    done = subprocess.run(
        ["bash", "-c", text],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    config, _, rest = done.stdout.partition("} ")
    assert json.loads(config + "}") == {
        "cluster": {"worker": ["n1:2222", "n2:2222"]},
        "task": {"type": "worker", "index": 1},
    }
    assert rest.strip() == "-m tfbig.train mnist_cnn run=a b"
