"""What a worker counts, over jobs that end in different ways; and its heartbeat."""

import os
from threading import Thread

import pytest
from prometheus_client import CollectorRegistry

from background_migrations.errors import MetricsAddressError, NoHeartbeatError
from background_migrations.heartbeat import Heartbeat
from background_migrations.metrics import WorkerMetrics, served
from background_migrations.throttling import Hook, Lookout
from tests.background_migrations.scenes import failing_at, uses
from tests.waiting import until


def test_a_worker_counts_what_becomes_of_its_jobs_and_what_kept_it_from_working(bench):
    bench.fill(40)
    migration_id = bench.queue(batch_size=10, max_value=40)
    uses(bench, failing_at(15))
    registry, answers = CollectorRegistry(), ["busy"]
    lookout = Lookout([Hook(lambda _table: answers.pop() if answers else None)], fresh_seconds=0)
    rules = bench.rules(max_attempts=1, lookout=lookout, meter=WorkerMetrics(registry, worker="w"))
    bench.worker(rules=rules).run()
    job = {"migration_name": "increment", "migration_id": str(migration_id)}

    def value(name, **labels):
        return registry.get_sample_value(name, labels)

    assert value("registry_bbm_claims_total", **job) == 4
    assert value("registry_bbm_job_outcomes_total", **job, outcome="finished") == 3
    assert value("registry_bbm_job_outcomes_total", **job, outcome="failed") == 1
    assert value("registry_bbm_job_failures_total", **job, kind="job_set_aside") == 1
    assert value("registry_bbm_migrated_tuples_total", **job) == 30
    assert value("registry_bbm_rows_total", **job) == 30
    assert value("registry_bbm_job_batch_size", **job) == 10
    assert value("registry_bbm_throttles_total", signal="hook") == 1
    assert value("registry_bbm_runs_total") >= 5
    assert value("registry_bbm_sleep_duration_seconds_count", worker="w") >= 1


def test_a_port_that_is_taken_is_an_error_that_names_it():
    with served("127.0.0.1", 0, worker="first"):
        pass
    with pytest.raises(MetricsAddressError, match=r"192\.0\.2\.1 port 9188"), served("192.0.2.1", 9188, worker="w"):
        pass


def test_a_worker_beats_while_it_works_and_one_that_is_silent_is_found_out(bench, tmp_path):
    heartbeat = Heartbeat(tmp_path / "alive")
    with pytest.raises(NoHeartbeatError, match="No such file"):
        heartbeat.check(longest_seconds=30)
    worker = bench.worker(once=False, on_beat=heartbeat.beat)
    thread = Thread(target=worker.run)
    thread.start()
    until(heartbeat.file.exists)
    assert heartbeat.check(longest_seconds=30) >= 0
    worker.stop()
    thread.join()
    an_hour_ago = heartbeat.file.stat().st_mtime - 3_600
    os.utime(heartbeat.file, (an_hour_ago, an_hour_ago))
    with pytest.raises(NoHeartbeatError, match=r"touched 36\d\d s ago"):
        heartbeat.check(longest_seconds=30)
