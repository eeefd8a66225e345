"""How far a run has come: what is saved beside its parameters."""

import dataclasses


@dataclasses.dataclass
class Progress:
    """What a run knows of its past; saved with each checkpoint, so that a resumed run goes on counting."""

    first_step: int = 0  # where the count began: at the initial checkpoint's step
    examples: int = 0
    seconds: float = 0.0  # spent on training, compilation included, evaluation and saving left out
    best_step: int | None = None
    best_score: float | None = None
    evaluations_without_gain: int = 0
    evaluation_owed: bool = False  # the evaluation of this step has not ended
    measure: str | None = None  # what best_score is; None: a run from before this was noted

    def scored_by(self, measure: str) -> None:
        """Scores of another measure cannot be compared: the best, and the patience, begin anew."""
        if self.measure not in (None, measure):
            self.best_step, self.best_score, self.evaluations_without_gain = None, None, 0
        self.measure = measure

    def evaluated(self, step: int, score: float) -> None:
        if self.best_score is None or score > self.best_score:
            self.best_step, self.best_score, self.evaluations_without_gain = step, score, 0
        else:
            self.evaluations_without_gain += 1
        self.evaluation_owed = False
