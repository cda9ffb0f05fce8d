"""A W&B workspace as code: its sections and panels."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from backhand.calculus.choices import check_choice, closest
from backhand.config.arguments import keys, parse
from backhand.config.command import script
from backhand.config.confidential import without_secrets
from backhand.config.ranges import WandbName
from backhand.config.schema import CHOICES, TrainConfig
from backhand.config.validation import check_wandb_environment, larger_is_better
from backhand.errors import UserError
from backhand.reporting.wandb_server import check_reachable

if TYPE_CHECKING:
    from wandb_workspaces.workspaces.interface import Section, Workspace

USAGE = """
Save a W&B workspace with the project's training curves, gradient flow, sweeps and best runs.

  python scripts/dashboard.py entity=my-team project=backhand
  python scripts/dashboard.py entity=my-team project=backhand objective=val/acc dry_run=true

  entity=NAME          the user or team that owns the project
  project=NAME         the project; it must exist
  objective=val/loss   the metric that sweeps are compared and runs are sorted by
  settings=[KEY,...]   the keys that the sweeps vary: [optimizer.lr,optimizer.momentum,model.init_scale,model.hidden]
  name=TEXT            the name of the workspace; every call saves a new one
  dry_run=true         print the workspace as JSON; nothing is sent and no key is needed
"""
METRICS = ("loss", "acc", "r2", "mae")
OBJECTIVES = tuple(f"{split}/{metric}" for metric in METRICS for split in ("val", "train", "test"))
GROUPS = [(group, kind) for group, choices in CHOICES.items() for kind in choices.values()]
SETTINGS = [*keys(TrainConfig), *(f"{group}.{key}" for group, kind in GROUPS for key in keys(kind))]


@dataclass
class DashboardArguments:
    """The arguments of `scripts/dashboard.py`."""

    entity: str = MISSING
    project: WandbName = MISSING
    objective: str = "val/loss"
    settings: list[str] = field(
        default_factory=lambda: ["optimizer.lr", "optimizer.momentum", "model.init_scale", "model.hidden"]
    )
    name: str = "Backward pass by hand"
    dry_run: bool = False


@script
def main(command_line: list[str]) -> int:
    """Run `scripts/dashboard.py`."""
    arguments = parse(DashboardArguments, command_line, USAGE)
    # wandb reads these when it is imported. Saving needs four requests, which take less than 30 s in total.
    os.environ.setdefault("WANDB_HTTP_TIMEOUT", "6")
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ["WANDB_MODE"] = "online"  # overrides the mode for runs: a dashboard needs the server
    workspace = build(arguments)
    print(json.dumps(described(workspace), indent=2) if arguments.dry_run else save(workspace))
    return 0


def build(arguments: DashboardArguments) -> Workspace:
    """Build the workspace.

    Raises:
        UserError: an unknown objective or setting, a name that W&B refuses, or wandb-workspaces is not installed.
    """
    for key, value in (("entity", arguments.entity), ("name", arguments.name)):
        if not value:
            raise UserError(f"{key}: must be given")
    check_choice("objective", arguments.objective, OBJECTIVES)
    for key in arguments.settings:
        if key not in SETTINGS:
            raise UserError(f"settings: {key}: no such key{closest(key, SETTINGS)}; train.py --help lists all")
    try:
        from wandb_workspaces import expr
        from wandb_workspaces.workspaces.interface import RunsetSettings, Workspace, WorkspaceSettings
    except ModuleNotFoundError:
        raise UserError("needs the package wandb-workspaces; pip install wandb-workspaces") from None

    best = _best(arguments.objective)
    best_first = expr.Ordering(expr.Summary(best), ascending=not larger_is_better(arguments.objective))
    try:
        return Workspace(
            entity=arguments.entity,
            project=arguments.project,
            name=arguments.name,
            sections=_sections(arguments.objective, arguments.settings),
            settings=WorkspaceSettings(x_axis="epoch"),
            runset_settings=RunsetSettings(order=[best_first], pinned_columns=[f"summary:{best}"]),
        )
    except ValueError:
        raise UserError(f"name={arguments.name}: W&B does not allow emoji in a name") from None


def described(workspace: Workspace) -> dict[str, Any]:
    """The workspace as a dict: its entity, project, name and panels."""
    from pydantic import TypeAdapter

    return TypeAdapter(type(workspace)).dump_python(workspace, mode="json", exclude_none=True)


def save(workspace: Workspace) -> str:
    """Send the workspace to W&B.

    Returns:
        Its URL.

    Raises:
        UserError: no API key, no answer, no such project, or W&B refuses the request.
    """
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    check_wandb_environment()
    refusals = (wandb.errors.Error, WandbApiFailedError, ValueError)
    try:
        if not wandb.login(prompt=False, verify=False):
            raise UserError("no W&B key; run `wandb login`, set WANDB_API_KEY, or use dry_run=true")
    except refusals as error:
        raise UserError(f"W&B's key cannot be used ({_reason(error)})") from None
    server = without_secrets(wandb.setup().settings.base_url)
    try:
        check_reachable(wandb.setup().settings.base_url)
    except OSError as error:
        raise UserError(f"W&B at {server} does not answer ({error.strerror or error})") from None
    try:
        api = wandb.Api()
    except refusals as error:
        raise UserError(f"W&B at {server} does not answer, or refuses the key ({_reason(error)})") from None
    try:
        api.project(workspace.project, workspace.entity).id  # noqa: B018  # sends a request
    except refusals as error:
        raise UserError(
            f"entity={workspace.entity} project={workspace.project}: no such project ({_reason(error)})"
        ) from None
    try:
        workspace.save()
    except refusals as error:
        raise UserError(f"W&B refuses the workspace ({_reason(error)})") from None
    return str(workspace.url)


def _best(objective: str) -> str:
    """The metric that runs are compared by: a test metric has one value, others have a best value over epochs."""
    return objective if objective.startswith("test/") else f"best/{objective}"


def _reason(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _sections(objective: str, settings: list[str]) -> list[Section]:
    from wandb_workspaces.reports.v2.interface import (
        BarPlot,
        Config,
        LinePlot,
        ParallelCoordinatesPlot,
        ParallelCoordinatesPlotColumn,
        ParameterImportancePlot,
        RunComparer,
        ScatterPlot,
        SummaryMetric,
    )
    from wandb_workspaces.workspaces.interface import Section

    def by_layer(title: str, regex: str, **axes: Any) -> LinePlot:
        # A regular expression, so that one panel fits networks of every depth.
        return LinePlot(title=title, x="epoch", metric_regex=regex, **axes)

    best = _best(objective)
    best_runs = dict.fromkeys([best, *(f"test/{metric}" for metric in METRICS)])
    return [
        Section(
            name="Training curves",
            is_open=True,
            panels=[
                LinePlot(title=metric, x="epoch", y=[f"train/{metric}", f"val/{metric}"], log_y=metric == "loss")
                for metric in METRICS
            ],
        ),
        Section(
            name="Gradient and δ flow by layer",
            is_open=True,
            panels=[
                by_layer("δ, root mean square", "^delta/.*", log_y=True),
                by_layer("∇θ, norm", "^grad/.*", log_y=True),
            ],
        ),
        Section(
            name="Units",
            panels=[
                by_layer("Dead units, share", "^units/dead_.*", range_y=(0, 1)),
                by_layer("Saturated units, share", "^units/saturated_.*", range_y=(0, 1)),
            ],
        ),
        Section(
            name="Audit of the hand-derived gradients",
            panels=[by_layer("Relative error against float64 autograd", "^audit/.*", log_y=True)],
        ),
        Section(
            name="Sweep comparison",
            is_open=True,
            panels=[
                ParallelCoordinatesPlot(
                    title=f"Settings and {best}",
                    columns=[
                        *(
                            ParallelCoordinatesPlotColumn(metric=Config(key), log=key == "optimizer.lr")
                            for key in settings
                        ),
                        ParallelCoordinatesPlotColumn(metric=SummaryMetric(best)),
                    ],
                ),
                ParameterImportancePlot(with_respect_to=best),
                ScatterPlot(
                    title=f"{best} by learning rate", x=Config("optimizer.lr"), y=SummaryMetric(best), log_x=True
                ),
            ],
        ),
        Section(
            name="Best runs",
            panels=[
                RunComparer(diff_only="split"),
                *(BarPlot(title=metric, metrics=[metric]) for metric in best_runs),
            ],
        ),
    ]
