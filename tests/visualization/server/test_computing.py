"""One thread that computes: a short line before it, and an end to what nobody waits for."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
import torch

from glassformer.visualization.server import LiveModel, build_app
from glassformer.visualization.server.computing import AbandonedError, BusyError, TooLongError

JSON = (b"content-type", b"application/json")


def test_the_line_is_short_and_what_nobody_waits_for_ends(model, computing_for, slowed):
    with computing_for(model, waiting=2) as computing:
        begun, go_on, handle = slowed(model)
        ids = torch.tensor([[1, 2]])
        running = computing.submit(lambda: model(ids))
        assert begun.wait(20)
        waiting = [computing.submit(lambda: 1), computing.submit(lambda: 2)]
        assert computing.load == {"computing": True, "waiting": 2}
        with pytest.raises(BusyError, match="the model is busy, and 2 texts wait"):
            computing.submit(lambda: 3)
        computing.abandon(waiting[0])
        computing.abandon(running)
        last = computing.submit(lambda: 4)
        go_on.set()
        assert (waiting[1].result.result(20), last.result.result(20)) == (2, 4)
        for job in (waiting[0], running):
            with pytest.raises(AbandonedError):
                job.result.result(20)
        handle.remove()
        assert computing.submit(lambda: model(ids)).result.result(20).shape == (1, 2, 257)
        model(ids)  # of another thread: nobody's job
    with pytest.raises(AbandonedError, match="ending"):
        computing.submit(lambda: 1)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_computation_past_its_time_ends(model, computing_for):
    with computing_for(model, seconds=0.0) as computing:
        job = computing.submit(lambda: model(torch.tensor([[1]])))
        with pytest.raises(TooLongError, match="more than 0 seconds"):
            job.result.result(20)


def test_it_answers_while_it_computes_and_refuses_what_is_too_much(model, computing_for, requested, slowed):
    async def crowd(app, computing):
        begun, go_on, handle = slowed(model)
        asks = [requested(app, "POST", "/api/look", [JSON], b'{"text": "abc"}') for _ in range(3)]
        tasks = [asyncio.create_task(question) for question in asks]
        await asyncio.to_thread(begun.wait, 20)
        began = time.monotonic()
        status, _, content = await requested(app, path="/health")
        assert (status, json.loads(content)["computing"]) == (200, True)
        assert (await requested(app))[0] == 200
        assert time.monotonic() - began < 5
        done, _ = await asyncio.wait(tasks, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        status, headers, content = done.pop().result()
        assert (status, headers["retry-after"]) == (503, "1")
        assert "busy" in json.loads(content)["error"]
        go_on.set()
        handle.remove()
        return sorted([(await task)[0] for task in tasks])

    with computing_for(model, waiting=1) as computing:
        app = build_app(LiveModel(model, name="small"), computing)
        assert asyncio.run(crowd(app, computing)) == [200, 200, 503]
