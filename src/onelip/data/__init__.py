"""Labelled images: readers of public sets and of your own folders, drawn scenes, augmentation, inspection.

>>> from onelip import data
>>> data.open("scenes", "val", size=(64, 96), images=2).classes[:3]
('sky', 'building', 'road')
"""

from .benchmarks import cityscapes as cityscapes
from .benchmarks import oxford_pet as oxford_pet
from .benchmarks import voc as voc
from .boxes import BoxAugment as BoxAugment
from .boxes import DetectionDataset as DetectionDataset
from .boxes import box_names as box_names
from .boxes import open_boxes as open_boxes
from .catalog import names as names
from .catalog import open as open  # noqa: A004 - read as data.open
from .catalog import roots as roots
from .dataset import VOID as VOID
from .dataset import FileDataset as FileDataset
from .dataset import LabelTable as LabelTable
from .dataset import Sample as Sample
from .dataset import SegmentationDataset as SegmentationDataset
from .dataset import to_tensors as to_tensors
from .labels import ClassificationDataset as ClassificationDataset
from .labels import LabelAugment as LabelAugment
from .labels import label_names as label_names
from .labels import open_labels as open_labels
from .landing import LardDataset as LardDataset
from .landing import lard as lard
from .readers import camvid as camvid
from .readers import folder as folder
from .readers import kvasir as kvasir
from .runway.dataset import RunwayDataset as RunwayDataset
from .runway.dataset import runways as runways
from .streets import SceneDataset as SceneDataset
from .streets import scenes as scenes
from .summary import ClassStatistics as ClassStatistics
from .summary import class_statistics as class_statistics
from .summary import contact as contact
from .summary import inspect as inspect
