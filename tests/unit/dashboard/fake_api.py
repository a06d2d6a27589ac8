"""An API that has one more step of every run each time it is asked, and only some of the runs."""

from client import AsymError, Unreachable


class Api:
    api_url = "http://api"

    def __init__(self):
        self.asked, self.away = [], False

    def compared_runs(self, job_ids):
        self.asked.append("runs")
        if any("gone" in job_id for job_id in job_ids):
            raise AsymError.from_problem(404, {"title": "not found"})
        return {
            job_id: {
                "id": job_id,
                "name": f"run {job_id}",
                "status": "succeeded",
                "progress": {"step": 3, "steps": 3},
                "spec": {"seed": 0},
                "gpus": 0,
                "keys": ["r"],
            }
            for job_id in job_ids
        }

    def compare(self, job_ids, keys, *, since, **more):
        if self.away:
            raise Unreachable("no answer")
        self.asked.append("compare")
        step = int(since.split(",")[0]) + 1
        series = {"r": {"step": [step], "value": [float(step)]}}
        job = {"status": "running", "keys": series, "drop_after": -1 if step == 1 else None}
        return {
            "cursor": ",".join(str(step) for _ in job_ids),
            "jobs": {job_id: {"name": job_id, **job} for job_id in job_ids},
        }
