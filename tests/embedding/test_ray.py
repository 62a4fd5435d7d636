"""Two workers of a real Ray, on this machine, that embed one table."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from command_line import run_command

from msiam import Model
from msiam.embedding import table
from msiam.embedding.parts import Parts
from msiam.embedding.ray import Ray, Worker
from msiam.embedding.table import Crew, Job, embed_table
from msiam.errors import RecipeError, RunError
from msiam.towers.inference import KEPT

ROWS, COUNT = 16, 16 * 12 - 5


@pytest.fixture(scope="module")
def ray():
    """A Ray that is connected, with two processors."""
    import ray.data

    place = f"/tmp/msiam-ray-{os.getpid()}"  # the names of sockets in it must be short
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # or a busy machine lets them starve
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init(
            address="local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False,
            object_store_memory=80 << 20, _temp_dir=place,
        )  # fmt: skip
        yield ray
        ray.shutdown()
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, a table and its embeddings, as one process makes them."""
    folder = tmp_path_factory.mktemp("ray")
    model = Model({"text": {"encoder": "lstm", "dim": 8, "hidden": 8}}, {"text": "text"})
    model.tower("text").fit([f"a heart {n}" for n in range(9)])
    model.eval().save(folder / "model")
    cells = ("" if n % 5 == 2 else f"a heart {n}" for n in range(COUNT))
    lines = "".join(f"s{n},{cell}\n" for n, cell in enumerate(cells))
    (folder / "t.csv").write_text("key,text\n" + lines, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "ROWS", ROWS)
        written(folder, "right.parquet")
    return folder


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch):
    monkeypatch.setattr(table, "ROWS", ROWS)


def written(place, name, **options):
    model = Model.load(place / "model")
    return embed_table(model, str(place / "t.csv"), place / name, "text", "key", **options)


def after(windows):
    """What embeds so many windows and is then stopped."""

    class Stopped(Crew):
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
    assert "of 8 numbers: v.parquet" in done.stdout
    assert "Traceback" not in done.stderr and "Dataset" not in done.stderr


def test_where_a_worker_dies_once_the_others_go_on_and_nothing_is_embedded_twice(
    ray, place, tmp_path, monkeypatch
):
    with pytest.raises(KeyboardInterrupt):
        written(place, "w.parquet", crew=after(2))
    kept = {p: p.stat().st_mtime_ns for p in (place / ".w.parquet.parts").glob("*.parquet")}
    assert len(kept) == 2
    noted = tmp_path / "noted"
    noted.mkdir()

    class Mortal(Worker):  # local, so that Ray sends it, and does not import it
        def embed(self, starts):
            import os
            import signal

            parts = []
            for start in starts:
                parts.append(super().embed([start]))
                folder = self._job.parts.folder
                path = folder / f"{start:015}.parquet"
                (noted / f"{start}-{path.stat().st_mtime_ns}").touch()
                if start == 5 * 16:
                    (noted / "dying").touch()
                    if len(list(noted.glob("dying*"))) == 1:
                        (noted / "dying-again").touch()
                        os.kill(os.getpid(), signal.SIGKILL)
            return sum(parts)

    monkeypatch.setattr("msiam.embedding.ray.Worker", Mortal)
    monkeypatch.setattr("msiam.embedding.ray.TURNS", 1)  # long runs of windows
    counted = []

    class Watched(Ray):
        def work(self, job, starts, progress):
            assert starts == list(range(2 * ROWS, COUNT, ROWS))
            super().work(job, starts, lambda rows: (counted.append(rows), progress(rows)))
            assert {p: p.stat().st_mtime_ns for p in kept} == kept

    found = written(place, "w.parquet", resume=True, crew=Watched(place / "model", 2))
    assert (noted / "dying-again").exists()
    assert (place / "w.parquet").read_bytes() == (place / "right.parquet").read_bytes()
    assert found.left_out == len(range(2, COUNT, 5))
    assert sum(counted) == COUNT - 2 * ROWS
    times = [path.name.split("-")[0] for path in noted.iterdir() if "dying" not in path.name]
    assert len(times) == len(set(times)) == 10, "a window was embedded twice"


def test_workers_that_die_again_and_again_make_the_whole_fail_and_it_goes_on(
    ray, place, monkeypatch
):
    class Mortal(Worker):
        def embed(self, starts):
            import os
            import signal

            self._open = lambda: os.kill(os.getpid(), signal.SIGKILL)
            return super().embed(starts)

    with monkeypatch.context() as patch:
        patch.setattr("msiam.embedding.ray.TRIES", 2)  # which goes with the class
        patch.setattr("msiam.embedding.ray.Worker", Mortal)
        with pytest.raises(RunError, match=r"ended 2 times at the window from row \d+ .*--resume$"):
            written(place, "x.parquet", crew=Ray(place / "model", 1))
    assert not (place / "x.parquet").exists()
    written(place, "x.parquet", resume=True)
    assert (place / "x.parquet").read_bytes() == (place / "right.parquet").read_bytes()


def test_a_worker_that_does_not_see_the_files_says_so(ray, place, tmp_path):
    with pytest.raises(RunError, match=r"a worker on .*nowhere.*on a shared file system") as caught:
        written(place, "y.parquet", crew=Ray(tmp_path / "nowhere", 1))
    assert "\n" not in str(caught.value)
    assert not list(place.glob(".y.*"))


def test_a_worker_that_sees_other_files_does_not_embed(place, tmp_path):
    """Without Ray: a result's folder that is not there, and another table under the same name."""
    (tmp_path / "t.csv").write_text("key,text\ns0,other\n", encoding="utf-8")
    model = Model.load(place / "model")
    out = place / "z.parquet"
    other = Worker(
        Parts(out), lambda: Job.of(model, tmp_path / "t.csv", out, "text", "key", KEPT, ROWS)
    )
    found = other({"starts": [[0]]})
    assert found["rows"] == [0]
    assert "z.parquet: nothing was begun here; run, table and result" in found["refused"][0]

    class Other(Crew):
        def work(self, job, starts, progress):
            job.parts.share()
            other.embed(starts[:1])

    with pytest.raises(RunError, match=r"begun with another table .*on a shared file system"):
        written(place, "z.parquet", crew=Other())


def test_a_worker_that_cannot_write_says_why_and_nothing_about_what_it_sees(place, monkeypatch):
    def full(*arguments):
        raise RunError("no room to write it")

    class Full(Crew):
        def work(self, job, starts, progress):
            job.parts.share()
            with monkeypatch.context() as patch:
                patch.setattr(Job, "embed", full)
                Worker(job.parts, lambda: job).embed(starts)

    with pytest.raises(RunError, match=r"a worker on \S+: no room to write it$"):
        written(place, "f.parquet", crew=Full())


def test_nobody_begins_anew_while_a_worker_is_at_work(place):
    class Helped(Crew):
        def work(self, job, starts, progress):
            job.parts.share()
            with job.parts.helping(job.state), pytest.raises(RunError, match="another process is"):
                written(place, "h.parquet", overwrite=True)
            super().work(job, starts, progress)

    assert written(place, "h.parquet", crew=Helped()).count


def test_what_is_asked_of_the_engine_must_fit(place):
    with pytest.raises(RecipeError, match="workers: found 0"):
        Ray(place / "model", 0)
    for options, message in (
        (["--engine", "rai"], "found neither local nor ray"),
        (["--workers", "2"], "belongs to --engine ray"),
    ):
        done = run_command("embed", "model", "t.csv", "--out", "q.parquet", *options, cwd=place)
        assert (done.returncode, message in done.stderr) == (2, True)


def test_without_ray_the_error_names_the_extra(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    done = run_command(
        "embed", "model", "t.csv", "--out", "q.parquet", "--engine", "ray", cwd=place
    )
    assert (done.returncode, "pip install 'msiam[ray]'" in done.stderr) == (2, True)
    assert not Path(place / ".q.parquet.parts").exists()


def test_a_cluster_that_does_not_answer_is_named(place, monkeypatch):
    import ray

    def away(**options):
        raise ConnectionError("no route")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", away)
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(RunError, match=r"no cluster answers at head:6379; start it"):
        written(place, "c.parquet", crew=Ray(place / "model", 1))
