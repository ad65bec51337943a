"""What has arrived in TensorBoard's and MLflow's folders, read back by the libraries themselves."""

from __future__ import annotations


def of_tensorboard(folder):
    """Tag → [(step, value)], each with the folder it is in."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for file in sorted(folder.rglob("*tfevents*")):
        events = EventAccumulator(str(file.parent))
        events.Reload()
        where = file.parent.relative_to(folder.parent)
        for tag in events.Tags()["scalars"]:
            found[f"{where}:{tag}"] = [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["tensors"]:
            texts = [event.tensor_proto.string_val for event in events.Tensors(tag)]
            found[f"{where}:{tag}"] = [part.decode() for text in texts for part in text]
    return found


def of_mlflow(folder):
    """Folder, experiment and run → what is known of the run."""
    from mlflow.entities import ViewType
    from mlflow.store.tracking.file_store import FileStore

    from tunewright_trackers.driven import environment

    if not folder.exists():
        return {}
    with environment({"MLFLOW_ALLOW_FILE_STORE": "true"}):
        store = FileStore(str(folder))
    found = {}
    for experiment in store.search_experiments():
        for run in store.search_runs([experiment.experiment_id], "", ViewType.ALL):
            key, of = run.info.run_id, f"{folder.name}:{experiment.name}:{run.info.run_name}"
            metrics = {
                name: [(one.step, one.value) for one in store.get_metric_history(key, name)]
                for name in run.data.metrics
            }
            found[of] = {"params": run.data.params, "metrics": metrics, "tags": run.data.tags,
                         "status": run.info.status, "user": run.info.user_id}  # fmt: skip
    return found
