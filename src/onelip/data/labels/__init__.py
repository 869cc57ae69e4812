"""Pictures with one class each: digits, MNIST, Fashion-MNIST, CIFAR-10, your own folder; augmentation and inspection.

>>> from onelip import data
>>> data.open_labels("digits", "val").classes[:3]
('0', '1', '2')
"""

from .augment import LabelAugment as LabelAugment
from .catalog import label_names as label_names
from .catalog import open_labels as open_labels
from .catalog import opens_as_labels as opens_as_labels
from .cifar import cifar10 as cifar10
from .dataset import ClassificationDataset as ClassificationDataset
from .dataset import Pictures as Pictures
from .dataset import to_bytes as to_bytes
from .digits import digits as digits
from .digits import fashion_mnist as fashion_mnist
from .digits import mnist as mnist
from .folder import class_folder as class_folder
from .folder import tenth as tenth
from .summary import contact_labels as contact_labels
from .summary import inspect_labels as inspect_labels
