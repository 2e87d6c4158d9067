"""`/api/admin/controls`: stop parts of the box on purpose, and let them go on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from litestar import get, post
from litestar.params import JSONBody
from litestar.types import ControllerRouterHandler
from msgspec import Meta, Struct

from appliance.control.holds import OPERATOR, TARGETS, Hold, Mode, Target, strongest
from appliance.control.ledger import hold, read_holds, release
from bus.errors import Retryable
from web.auth.routes import AnyRequest, remote_of
from web.problems import Problem, problem_of
from web.services import Given

MAX_HOLD_S = 90 * 86400.0


class Control(Struct, frozen=True, kw_only=True):
    """One target, and who holds it."""

    target: Target
    mode: Mode
    """The strongest of its holds; `run` without any."""
    holds: list[Hold]


class Controls(Struct, frozen=True, kw_only=True):
    controls: list[Control]


class Order(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What should become of a target."""

    target: Annotated[
        Literal["all", "intake", "download", "transcribe", "moments", "faces", "crop", "cut"],
        Meta(description="Intake, a stage, or all six stages.", examples=["cut"]),
    ]
    mode: Annotated[
        Mode,
        Meta(
            description="`pause`: nothing new begins. `drain`: workers end as well. `run`: the operator's hold is over."
        ),
    ]
    reason: Annotated[str, Meta(max_length=500, description="Why, for who comes later.", examples=["disk change"])] = ""
    for_s: (
        Annotated[float, Meta(ge=1, le=MAX_HOLD_S, description="Seconds after which it ends by itself; null: never.")]
        | None
    ) = None


@get("/api/admin/controls", opt={"role": "operator"}, tags=["controls"], summary="What is held, by whom and why")
async def controls(services: Given) -> Controls:
    """Holds of people, of the storage guard and of alerts."""
    return _controls(await read_holds(services.bus))


@post(
    "/api/admin/controls", opt={"role": "operator"}, status_code=200, tags=["controls"], summary="Pause, drain, resume"
)
async def order(data: JSONBody[Order], request: AnyRequest, services: Given) -> Controls:
    """Holds and releases in the operator's name; what others hold stands.

    When the event bus goes away in between, the problem says how far it got. Asking again changes nothing that is so.
    """
    assert request.user is not None
    user = request.user.user
    targets = [
        target for target in TARGETS if data.target in (target, "all") and (target, data.target) != ("intake", "all")
    ]
    until = None if data.for_s is None else datetime.now(UTC) + timedelta(seconds=data.for_s)
    done: list[Target] = []
    try:
        for target in targets:
            if data.mode == "run":
                await release(services.bus, target, OPERATOR, by=user, reason=data.reason)
            else:
                await hold(services.bus, target, OPERATOR, mode=data.mode, by=user, reason=data.reason, until=until)
            done.append(target)
    except Retryable as error:
        unknown, untouched = targets[len(done)], targets[len(done) + 1 :]
        said = f"{','.join(done)} perhaps:{unknown}".strip()
        await services.audit(user, f"control.{data.mode}", said, remote_of(request))
        problem = problem_of(error)
        problem.detail = (
            f"done: {', '.join(done) or 'none'}; not known: {unknown}; not done: {', '.join(untouched) or 'none'}; "
            f"ask again when the event bus is back ({error})"
        )
        raise problem from error
    except ValueError as error:  # it was over before the bus had taken it
        if done:
            await services.audit(user, f"control.{data.mode}", ",".join(done), remote_of(request))
        raise Problem(422, "hold-refused", str(error)) from error
    await services.audit(user, f"control.{data.mode}", data.target, remote_of(request))
    return _controls(await read_holds(services.bus))


def _controls(standing: list[Hold]) -> Controls:
    found = []
    for target in TARGETS:
        holds = [one for one in standing if one.target == target]
        found.append(Control(target=target, mode=strongest(holds), holds=holds))
    return Controls(controls=found)


HANDLERS: list[ControllerRouterHandler] = [controls, order]
