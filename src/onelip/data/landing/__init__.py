"""LARD, the landing approach runway data set: its tables, its pitfalls, a reader, and a writer of drawn pictures."""

from .recipe import Recipe as Recipe
from .schema import COLUMNS as COLUMNS
from .schema import Row as Row
from .schema import read_table as read_table
from .schema import write_table as write_table
from .writer import write as write
