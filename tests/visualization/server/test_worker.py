"""The worker thread: its queue, cancellation and timeouts."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
import torch

from glassformer.visualization.server import ModelSession, build_app
from glassformer.visualization.server.worker import JobCancelledError, JobTimeoutError, QueueFullError

JSON = (b"content-type", b"application/json")


def test_the_queue_is_limited_and_cancelled_jobs_stop(model, worker_for, block):
    with worker_for(model, max_queued=2) as worker:
        waiting, release, handle = block(model)
        ids = torch.tensor([[1, 2]])
        running = worker.submit(lambda: model(ids))
        assert waiting.wait(20)
        queued = [worker.submit(lambda: 1), worker.submit(lambda: 2)]
        assert worker.status == {"computing": True, "waiting": 2}
        with pytest.raises(QueueFullError, match="the model is busy and 2 requests are waiting"):
            worker.submit(lambda: 3)
        worker.cancel(queued[0])
        worker.cancel(running)
        last = worker.submit(lambda: 4)
        release.set()
        assert (queued[1].future.result(20), last.future.result(20)) == (2, 4)
        for job in (queued[0], running):
            with pytest.raises(JobCancelledError):
                job.future.result(20)
        handle.remove()
        assert worker.submit(lambda: model(ids)).future.result(20).shape == (1, 2, 257)
        model(ids)  # in another thread
    with pytest.raises(JobCancelledError, match="shutting down"):
        worker.submit(lambda: 1)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_job_past_its_deadline_stops(model, worker_for):
    with worker_for(model, timeout=0.0) as worker:
        job = worker.submit(lambda: model(torch.tensor([[1]])))
        with pytest.raises(JobTimeoutError, match="more than 0 seconds"):
            job.future.result(20)


def test_the_server_responds_while_the_model_runs_and_refuses_excess_requests(
    model, worker_for, request_to, block
):
    async def send_requests(app):
        waiting, release, handle = block(model)
        requests = [request_to(app, "POST", "/api/predict", [JSON], b'{"text": "abc"}') for _ in range(3)]
        tasks = [asyncio.create_task(request) for request in requests]
        await asyncio.to_thread(waiting.wait, 20)
        began = time.monotonic()
        status, _, content = await request_to(app, path="/health")
        assert (status, json.loads(content)["computing"]) == (200, True)
        assert (await request_to(app))[0] == 200
        assert time.monotonic() - began < 5
        done, _ = await asyncio.wait(tasks, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        status, headers, content = done.pop().result()
        assert (status, headers["retry-after"]) == (503, "1")
        assert "busy" in json.loads(content)["error"]
        release.set()
        handle.remove()
        return sorted([(await task)[0] for task in tasks])

    with worker_for(model, max_queued=1) as worker:
        app = build_app(ModelSession(model, name="small"), worker)
        assert asyncio.run(send_requests(app)) == [200, 200, 503]
