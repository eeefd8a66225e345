"""ListOps: nested MIN, MAX, MED and SUM over numbers, their values and their explanations.

Lives here: expressions, explanations and their check, the configs of the dataset, the authors' files.
May not: import anything but the standard library and explainft.core.errors.
"""

from explainft.listops.explain import STYLES as STYLES
from explainft.listops.explain import Check as Check
from explainft.listops.explain import Explanation as Explanation
from explainft.listops.explain import Step as Step
from explainft.listops.explain import check as check
from explainft.listops.explain import explain as explain
from explainft.listops.explain import final_answer as final_answer
from explainft.listops.explain import lines as lines
from explainft.listops.explain import read as read
from explainft.listops.explain import steps as steps
from explainft.listops.expression import OPERATORS as OPERATORS
from explainft.listops.expression import ListOpsError as ListOpsError
from explainft.listops.expression import Node as Node
from explainft.listops.expression import Tree as Tree
from explainft.listops.expression import depth as depth
from explainft.listops.expression import evaluate as evaluate
from explainft.listops.expression import format as format
from explainft.listops.expression import length as length
from explainft.listops.expression import operators as operators
from explainft.listops.expression import parse as parse
from explainft.listops.expression import values as values
from explainft.listops.first_error import ERROR_KINDS as ERROR_KINDS
from explainft.listops.first_error import FirstError as FirstError
from explainft.listops.first_error import first_error as first_error
from explainft.listops.first_error import lines_of_step as lines_of_step
