"""Tables and folders of LARD, the landing approach runway data set: read, checked, repaired, and written.

>>> from onelip import data
>>> data.landing.COLUMNS[:3], len(data.landing.COLUMNS)
(('image', 'height', 'width'), 29)
"""

from .labels import Repairs as Repairs
from .reader import LardDataset as LardDataset
from .reader import lard as lard
from .recipe import Recipe as Recipe
from .schema import COLUMNS as COLUMNS
from .schema import Row as Row
from .schema import read_table as read_table
from .schema import write_table as write_table
from .tables import split_by_airport as split_by_airport
from .writer import write as write
