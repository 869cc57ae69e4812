"""Pictures with boxes around their objects: COCO's JSON, VOC's XML, runways; augmentation and inspection.

>>> from onelip import data
>>> data.open_boxes("runways", "val", size=(64, 64), images=2).classes
('runway',)
"""

from .augment import BoxAugment as BoxAugment
from .catalog import box_names as box_names
from .catalog import open_boxes as open_boxes
from .catalog import opens_as_boxes as opens_as_boxes
from .coco import coco as coco
from .dataset import DetectionDataset as DetectionDataset
from .dataset import Objects as Objects
from .dataset import Target as Target
from .dataset import to_bytes as to_bytes
from .dataset import to_tensors as to_tensors
from .files import Entry as Entry
from .files import FileBoxes as FileBoxes
from .named import bccd as bccd
from .named import coco_folder as coco_folder
from .named import penn_fudan as penn_fudan
from .repairs import Repairs as Repairs
from .runways import RunwayBoxes as RunwayBoxes
from .summary import contact_boxes as contact_boxes
from .summary import inspect_boxes as inspect_boxes
from .voc import voc_boxes as voc_boxes
