"""keep_running.sh: its actions in each state of a machine and of its run."""

import re

import pytest

from tests.tpu_scripts.cloud import GPU, POD, QUEUED, RECIPE


def time_free(text):
    return re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", "", text, flags=re.MULTILINE).splitlines()


def verbs(calls):
    """The story of a run in single words."""
    words = dict(create="create", delete="delete", describe="look", scp="copy", sleep="sleep")
    words |= {"--command=true": "reach", "--command=rm": "setup", "--command=if": "ask", "--command=env": "run"}
    return [" ".join(words[word] for word in call.split() if word in words) for call in calls]


START_ALL = ["ask", "reach", "copy", "setup", "run"]  # the first one stops what is left of the run


def test_a_run_resumes_after_a_preemption(cloud):
    cloud.answers(
        states=["MISSING", *["READY"] * 3, "PREEMPTED", "MISSING", "OFFLINE", *["READY"] * 3],
        jobs=["absent", "running", "FAILS", "absent", "running", "finished"],
    )
    (cloud.checkout / "mine.py").write_text("")
    run = cloud.run("keep_running.sh", RECIPE, "--gin.X=a b", **POD, SPOT="1")
    assert run.stderr.count(f"changes are not copied; the hosts get {cloud.commit}\n") == 2  # HEAD may have moved on
    calls = cloud.calls()
    first = ["look", "create", "look", "ask", *START_ALL, "look", "ask", "sleep", "look", "ask", "sleep"]
    gone = ["look", "delete", "sleep", "look", "create", "look", "sleep"]
    again = ["look", "ask", *START_ALL, "look", "ask", "sleep", "look", "ask"]
    assert verbs(calls) == first + gone + again
    starts = [call for call in calls if "--command=env" in call]
    assert len(starts) == 2 and starts[0] == starts[1] and starts[0].endswith(r"--gin.X=a\ b --multihost")
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d tpu is missing", run.stdout)
    assert time_free(run.stdout) == [
        "tpu is missing; creating it",
        "tpu is READY, no run in progress; setting it up and starting the run",
        "tpu is READY, the run is running; polling again in 60 s",
        "tpu is READY, the run is unreachable; polling again in 60 s",
        "tpu is PREEMPTED; deleting it",
        "tpu was PREEMPTED; retry 1 of 50 in 120 s",
        "tpu is missing; creating it",
        "tpu is UNKNOWN; polling again in 60 s",
        "tpu is READY, no run in progress; setting it up and starting the run",
        "tpu is READY, the run is running; polling again in 60 s",
        "tpu is READY, the run is finished; the machine costs until it is deleted",
    ]


@pytest.mark.parametrize(
    ("settings", "answers", "delete"),
    [
        (QUEUED, dict(queue=["SUSPENDED"]), "tpus queued-resources delete tpu"),
        (QUEUED, dict(queue=["ACTIVE", "OFFLINE"], states=["MISSING"]), "tpus queued-resources delete tpu"),
        (dict(SPOT="1"), dict(states=["TERMINATED"]), "tpus tpu-vm delete tpu"),
        (dict(GPU, HOSTS="2"), dict(states=["RUNNING", "TERMINATED"]), "instances delete gpu-0 gpu-1"),
        (dict(GPU, HOSTS="2"), dict(states=["MISSING", "RUNNING"]), "instances delete gpu-0 gpu-1"),
    ],
)
def test_the_rest_of_a_machine_is_deleted(cloud, settings, answers, delete):
    cloud.answers(**answers)
    cloud.run("keep_running.sh", RECIPE, **settings, RETRIES="0", expected=1)
    *looks, last = cloud.calls()
    assert last.startswith(delete) and set(verbs(looks)) == {"look"}


def test_retries_end(cloud):
    cloud.answers(states=["MISSING"] * 9, creates=["FAILS"] * 9)
    run = cloud.run("keep_running.sh", RECIPE, RETRIES="2", RETRY_PAUSE="5", expected=1)
    assert verbs(cloud.calls()) == ["look", "create", "sleep"] * 2 + ["look", "create"]
    assert cloud.calls()[2] == "sleep 5"
    assert time_free(run.stdout)[-1] == "tpu was not created; none of RETRIES=2 is left"


def test_a_failed_run_is_not_restarted(cloud):
    cloud.answers(states=["READY"] * 3, jobs=["running", "failed 2\\nrunning"])
    run = cloud.run("keep_running.sh", RECIPE, expected=1)
    assert verbs(cloud.calls()) == ["look", "ask", "sleep"] * 2 + ["look"]
    assert time_free(run.stdout)[-1].startswith("tpu is still READY, so the run failed 2 by itself")


@pytest.mark.parametrize("job", ["stopped", "absent\\nrunning", "failed 134\\nrunning"])
def test_a_preempted_run_moves_to_the_next_machine(cloud, job):
    cloud.answers(
        states=["READY", "READY", "PREEMPTED", "PREEMPTED", "MISSING", "READY", "READY"],
        jobs=["running", job, "absent", "finished"],
    )
    cloud.run("keep_running.sh", RECIPE)
    gone = [*["look", "ask", "sleep"] * 2, "look", "look", "delete", "sleep", "look", "create"]
    assert verbs(cloud.calls()) == [*gone, "look", "ask", *START_ALL, "look", "ask"]


def test_a_run_restarts_after_a_reboot(cloud):
    cloud.answers(states=["READY"] * 4, jobs=["running", "stopped", "finished"])
    cloud.run("keep_running.sh", RECIPE)
    assert verbs(cloud.calls()) == [*["look", "ask", "sleep"] * 2, "look", "sleep", *START_ALL, "look", "ask"]


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("gin/no.gin", {}, "machine.sh: error: RECIPE=gin/no.gin is not in "),
        (
            RECIPE,
            dict(MODEL_DIR="/tmp/run"),
            "keep_running.sh: error: MODEL_DIR=/tmp/run is deleted with the machine; give a",
        ),
        (RECIPE, dict(RETRIES="many"), "keep_running.sh: error: RETRIES=many must be an integer or unlimited"),
        (RECIPE, dict(RETRY_PAUSE="1m"), "keep_running.sh: error: RETRY_PAUSE=1m must be an integer, in seconds"),
        (RECIPE, dict(ZONE=""), "machine.sh: error: ZONE is not set"),
    ],
)
def test_errors_show_before_a_machine_is_created(cloud, recipe, settings, message):
    run = cloud.run("keep_running.sh", recipe, **settings, expected=2)
    assert run.stderr.startswith(message) and run.stderr.count("\n") == 1 and not cloud.calls()


def test_a_pending_machine_is_polled(cloud):
    queue = ["WAITING_FOR_RESOURCES", "ACCEPTED", "PROVISIONING", *["ACTIVE"] * 3]
    cloud.answers(queue=queue, states=["CREATING", "READY", "READY"], jobs=["running", "finished"])
    cloud.run("keep_running.sh", RECIPE, **QUEUED)
    once = ["look", "look", "ask"]
    assert verbs(cloud.calls()) == ["look", "sleep"] * 3 + ["look", "look", "sleep", *once, "sleep", *once]


@pytest.mark.parametrize("job", ["finished", "failed 2", "stopped"])
def test_the_end_of_an_earlier_run_does_not_count(cloud, job):
    cloud.answers(states=["READY"] * 2, jobs=[job, "finished"])
    cloud.run("keep_running.sh", RECIPE)
    assert verbs(cloud.calls()) == ["look", "ask", *START_ALL, "look", "ask"]
