import numpy as np
from matplotlib.image import imread
from matplotlib.patches import Rectangle

from nnunetv2_sam2_3dmed.interactive.preview import choose_panels, draw_preview, write_preview
from tests.interactive.reference import phantom


def test_prompted_slices_come_first_and_the_others_are_spread():
    labels = np.zeros((30, 2, 2), dtype=np.uint8)
    labels[5:26] = 1
    # 9 is prompted, of 5 to 25 without it four are taken from end to end
    assert choose_panels(labels, [9], 0) == [5, 9, 12, 19, 25]
    assert choose_panels(labels, [], 1) == [0, 1]
    assert choose_panels(np.zeros((30, 2, 2)), [], 0) == [15]


def test_prompts_and_masks_are_drawn(session, tmp_path):
    session.set_image(phantom(), (3.0, 1.0, 1.0))
    session.add_box((3, 10, 12), (3, 30, 33))
    session.add_points([(3, 20, 20), (3, 2, 2)], [1, 0])
    session.propagate(slices=(2, 4))
    labels = session.labels()
    figure = draw_preview(session, labels, 0)
    panels = [panel for panel in figure.axes if panel.get_title()]
    assert [panel.get_title() for panel in panels] == ["slice 2", "slice 3", "slice 4"]
    (box,) = [patch for patch in panels[1].patches if isinstance(patch, Rectangle)]
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (12, 10, 21, 20)
    marks = {line.get_marker(): line.get_xydata().tolist() for line in panels[1].lines}
    assert marks == {"+": [[20, 20]], "x": [[2, 2]]}
    assert not panels[0].patches
    write_preview(tmp_path / "new" / "picture.png", session, labels, 0)
    assert imread(tmp_path / "new" / "picture.png").ndim == 3
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["picture.png"]
