"""Data sets: JSONL, CSV and Parquet files of problems, read as streams into typed rows, with every bad line reported.

`inspect` reads a whole file and says all that is wrong with it; `read_problems` yields the rows of a file that is
right. Which columns are understood without any conversion is in `recognition`. Tokenisation is `trainer.prompts`;
whether an answer can be checked by a verifier is `trainer.rewards.check_answer`.
"""

from trainer.spec.dataset.inspection import MAX_LISTED_ERRORS as MAX_LISTED_ERRORS
from trainer.spec.dataset.inspection import DataError as DataError
from trainer.spec.dataset.inspection import DataFormat as DataFormat
from trainer.spec.dataset.inspection import Inspection as Inspection
from trainer.spec.dataset.inspection import detect_format as detect_format
from trainer.spec.dataset.inspection import inspect as inspect
from trainer.spec.dataset.inspection import read_problems as read_problems
from trainer.spec.dataset.problem import Limits as Limits
from trainer.spec.dataset.problem import Message as Message
from trainer.spec.dataset.problem import Problem as Problem
from trainer.spec.dataset.problem import RowError as RowError
from trainer.spec.dataset.problem import apply_template as apply_template
from trainer.spec.dataset.problem import last_user_text as last_user_text
from trainer.spec.dataset.problem import tiny_arith_offenders as tiny_arith_offenders
from trainer.spec.dataset.statistics import Lengths as Lengths
from trainer.spec.dataset.statistics import Statistics as Statistics
from trainer.spec.dataset.statistics import StatisticsCounter as StatisticsCounter
