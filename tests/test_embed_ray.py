"""Two workers of a real Ray, on this machine, that embed one table."""

from __future__ import annotations

import os
import signal

import pytest
from command_line import run_command

from msiam import Model, embed
from msiam.embed import Job, embed_table
from msiam.embed_ray import Ray, Worker
from msiam.errors import RecipeError, RunError
from msiam.towers.inference import KEPT


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    found = pytest.importorskip("ray", reason="ray is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        found.init(
            address="local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False,
            object_store_memory=80 << 20, _node_ip_address="127.0.0.1",
            _temp_dir=f"/tmp/msiam-ray-{os.getpid()}",
        )  # fmt: skip
        yield found
        found.shutdown()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, a table of three windows and its embeddings, as one process makes it."""
    folder = tmp_path_factory.mktemp("ray")
    model = Model({"text": {"encoder": "lstm", "dim": 8, "hidden": 8}}, {"text": "text"})
    model.tower("text").fit([f"a heart {n}" for n in range(9)])
    model.eval().save(folder / "model")
    cells = ("" if n % 5 == 2 else f"a heart {n}" for n in range(3 * embed.ROWS - 100))
    lines = "".join(f"s{n},{cell}\n" for n, cell in enumerate(cells))
    (folder / "t.csv").write_text("key,text\n" + lines, encoding="utf-8")
    written(folder, "right.parquet")
    return folder


def written(place, name, **options):
    model = Model.load(place / "model")
    return embed_table(model, str(place / "t.csv"), place / name, "text", "key", **options)


def after(windows):
    """What embeds so many windows and is then stopped."""

    class Stopped(embed.Crew):
        def work(self, job, starts, progress):
            job.embed(starts[:windows], progress)
            raise KeyboardInterrupt

    return Stopped()


def test_two_workers_write_the_file_of_one_process(ray, place):
    done = run_command(
        "embed", "model", "t.csv", "--id", "key", "--out", "v.parquet", "--engine", "ray",
        "--workers", 2, cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (place / "v.parquet").read_bytes() == (place / "right.parquet").read_bytes()
    assert not (place / ".v.parquet.parts").exists()


def test_windows_that_are_written_are_never_embedded_again(ray, place):
    with pytest.raises(KeyboardInterrupt):
        written(place, "w.parquet", crew=after(2))
    (kept, _) = sorted((place / ".w.parquet.parts").glob("*.parquet"))
    kept.write_bytes(kept.read_bytes())  # its time is noted, and its being left
    before = kept.stat().st_mtime_ns
    seen = []

    class Watched(Ray):
        def work(self, job, starts, progress):
            seen.extend(starts)
            super().work(job, starts, progress)
            assert kept.stat().st_mtime_ns == before

    found = written(place, "w.parquet", resume=True, crew=Watched(place / "model"))
    assert seen == [2 * embed.ROWS]
    assert (place / "w.parquet").read_bytes() == (place / "right.parquet").read_bytes()
    assert found.left_out == len(range(2, 3 * embed.ROWS - 100, 5))


def test_a_worker_that_dies_makes_the_whole_fail_and_it_goes_on(ray, place, monkeypatch):
    def die(self, starts):
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        mortal = type("Worker", (), {"__init__": lambda self, job: None, "embed": die})
        patch.setattr("msiam.embed_ray.Worker", mortal)
        with pytest.raises(RunError, match=r"x\.parquet: a worker of Ray has ended.*--resume"):
            written(place, "x.parquet", crew=Ray(place / "model", 1))
    assert not (place / "x.parquet").exists()
    written(place, "x.parquet", resume=True, crew=Ray(place / "model", 2))
    assert (place / "x.parquet").read_bytes() == (place / "right.parquet").read_bytes()


def test_a_worker_that_does_not_see_the_files_says_so(ray, place, tmp_path):
    with pytest.raises(RunError, match=r"a worker on .*nowhere.*on a shared file system") as caught:
        written(place, "y.parquet", crew=Ray(tmp_path / "nowhere", 1))
    assert "\n" not in str(caught.value)
    assert not list(place.glob(".y.*"))


def test_a_worker_that_sees_other_files_does_not_embed(place, tmp_path):
    """Without Ray: another model under the same name, and a result's folder that is not there."""
    (tmp_path / "t.csv").write_text("key,text\ns0,other\n", encoding="utf-8")
    model = Model.load(place / "model")
    out = place / "z.parquet"
    other = Worker(lambda: Job.of(model, str(tmp_path / "t.csv"), out, "text", "key", KEPT))
    with pytest.raises(RunError, match=r"z\.parquet: nothing was begun here; run, table and result"):
        other.embed([0])

    class Other(embed.Crew):
        def work(self, job, starts, progress):
            job.parts.share()
            other.embed(starts[:1])

    with pytest.raises(RunError, match=r"begun with another table .*on a shared file system"):
        written(place, "z.parquet", crew=Other())


def test_nobody_begins_anew_while_a_worker_is_at_work(place):
    class Helped(embed.Crew):
        def work(self, job, starts, progress):
            job.parts.share()
            with job.parts.helping(job.state), pytest.raises(RunError, match="another process is"):
                written(place, "h.parquet", overwrite=True)
            super().work(job, starts, progress)

    assert written(place, "h.parquet", crew=Helped()).count


def test_what_is_asked_of_the_engine_must_fit(place):
    pytest.importorskip("ray", reason="ray is not installed")
    with pytest.raises(RecipeError, match="workers: found 0"):
        Ray(place / "model", 0)
    for options, message in (
        (["--engine", "rai"], "found neither local nor ray"),
        (["--workers", "2"], "belongs to --engine ray"),
    ):
        done = run_command("embed", "model", "t.csv", "--out", "q.parquet", *options, cwd=place)
        assert (done.returncode, message in done.stderr) == (2, True)
