"""The progress of a run, which its checkpoints hold beside the parameters."""

import dataclasses


@dataclasses.dataclass
class Progress:
    """Counters and the best score of a run. Each checkpoint holds them, so that a resumed run continues to count."""

    first_step: int = 0  # the step of the initial checkpoint
    examples: int = 0
    seconds: float = 0.0  # of training and compilation, without evaluation and saving
    best_step: int | None = None
    best_score: float | None = None
    evaluations_without_gain: int = 0
    evaluation_pending: bool = False  # the evaluation of this step did not complete
    metric_id: str | None = None  # of best_score; None: no metric was set yet

    def set_metric_id(self, metric_id: str) -> None:
        """Resets the best score and the patience where the metric changed: its scores cannot be compared."""
        if self.metric_id not in (None, metric_id):
            self.best_step, self.best_score, self.evaluations_without_gain = None, None, 0
        self.metric_id = metric_id

    def add_steps(self, examples: int, seconds: float) -> None:
        """Counts the examples and the seconds of train steps."""
        self.examples += examples
        self.seconds += seconds

    def begin_evaluation(self) -> None:
        """Notes that an evaluation is due: a checkpoint that is saved before its score records that it is pending."""
        self.evaluation_pending = True

    def record_score(self, step: int, score: float) -> None:
        """Counts an evaluation that completed, and keeps its score where it is the best."""
        if self.best_score is None or score > self.best_score:
            self.best_step, self.best_score, self.evaluations_without_gain = step, score, 0
        else:
            self.evaluations_without_gain += 1
        self.evaluation_pending = False
