"""Trackers by transformers' own callbacks: TensorBoard, MLflow, Trackio, Weights & Biases. All off by default."""

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    return {
        "tracker/mlflow": "tunewright_trackers.mlflow:MlflowTracker",
        "tracker/tensorboard": "tunewright_trackers.tensorboard:TensorboardTracker",
        "tracker/trackio": "tunewright_trackers.trackio:TrackioTracker",
        "tracker/wandb": "tunewright_trackers.wandb:WandbTracker",
    }
