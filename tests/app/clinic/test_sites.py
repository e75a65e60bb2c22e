"""Sites and needle paths: where, why not, and what a hand-moved site violates."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.clinic.endplates import endplate_words
from app.clinic.inputs import Sweep
from app.clinic.needle import best_path, distance_to_segment_mm, obstacles_of, rim
from app.clinic.plan import plan_muscle
from app.clinic.sites import (
    InjectionSite,
    MovedSite,
    SitesRefused,
    check_moved_site,
    place_sites,
)
from app.clinic.spread import spread_evenly
from app.clinic.tables import ClinicalTables
from imaging.geometry import ImagePoint, TissuePoint


def box(
    rows: tuple[int, int], columns: tuple[int, int], shape: tuple[int, int] = (300, 400)
) -> Any:
    mask = np.zeros(shape, dtype=np.bool_)
    mask[rows[0] : rows[1], columns[0] : columns[1]] = True
    return mask


def sweep_of(make: Any, count: int = 11, spacing_mm: float = 10.0, **other: Any) -> Any:
    """Equal sections 10 mm apart, largest in the middle."""
    sections = []
    for i in range(count):
        half = 30 + 8 * min(i, count - 1 - i)
        sections.append(
            make.section(
                make.ellipse(half=(half, half + 20)),
                frame_key=str(i),
                position_mm=i * spacing_mm,
                **other,
            )
        )
    return make.observation(*sections)


# --- needles ----------------------------------------------------------------------------------


def path_to(make: Any, tables: ClinicalTables, point: ImagePoint, section: Any) -> Any:
    calibration = section.calibration
    return best_path(point, section, calibration, obstacles_of(section, calibration), tables.policy)


def test_a_free_path_comes_in_plane_at_45_degrees(make: Any, tables: ClinicalTables) -> None:
    """With nothing in the way the needle enters at 45° in plane, on the skin line, from the side
    nearer to the picture's edge."""
    section = make.section(skin_row=10)
    path = path_to(make, tables, ImagePoint(column=180, row=110), section)
    assert (path.approach, path.angle_deg) == ("in_plane_left", 45)
    assert path.depth_mm == pytest.approx(10.0)
    assert path.length_mm == pytest.approx(10.0 * math.sqrt(2))
    assert (path.entry.column, path.entry.row) == pytest.approx((80.0, 10.0))
    assert path.clearance_mm is None
    assert path.near is None
    other = path_to(make, tables, ImagePoint(column=220, row=110), section)
    assert other.approach == "in_plane_right"


def test_the_path_avoids_a_nerve(make: Any, tables: ClinicalTables) -> None:
    """A nerve on the way from the left sends the needle to the right, and the clearance is
    stated."""
    avoid = box((50, 70), (110, 130))
    section = make.section(avoid=avoid, skin_row=10)
    path = path_to(make, tables, ImagePoint(column=180, row=110), section)
    assert path.approach == "in_plane_right"
    assert path.near == "nerve or vessel"
    assert path.clearance_mm > 2


def test_a_flatter_or_steeper_way_is_taken(make: Any, tables: ClinicalTables) -> None:
    """Where both ways at 45° are barred, 30° is tried, then 60°, then out of plane, then none."""
    tip = ImagePoint(column=200, row=110)
    at_45 = box((18, 22), (108, 112)) | box((18, 22), (288, 292))
    path = path_to(make, tables, tip, make.section(avoid=at_45, skin_row=10))
    assert path.angle_deg == 30
    at_30 = box((18, 22), (42, 46)) | box((18, 22), (354, 358))
    path = path_to(make, tables, tip, make.section(avoid=at_45 | at_30, skin_row=10))
    assert path.angle_deg == 60
    wide = box((58, 62), (60, 175)) | box((58, 62), (225, 340))
    path = path_to(make, tables, tip, make.section(avoid=wide, skin_row=10))
    assert (path.approach, path.angle_deg) == ("out_of_plane", 90)
    assert path.length_mm == pytest.approx(10.0)
    lid = box((58, 62), (10, 390))
    assert path_to(make, tables, tip, make.section(avoid=lid, skin_row=10)) is None


def test_a_way_that_leaves_the_picture_comes_last(make: Any, tables: ClinicalTables) -> None:
    """An entry inside the picture is preferred to one outside it, which nobody can see."""
    section = make.section(skin_row=10)
    near_left = path_to(make, tables, ImagePoint(column=60, row=110), section)
    assert near_left.approach == "in_plane_right"
    assert near_left.seen_in_full
    narrow = make.section(box((100, 200), (0, 60), (300, 60)), skin_row=10)
    path = path_to(make, tables, ImagePoint(column=30, row=150), narrow)
    assert not path.seen_in_full
    placement = place_sites(make.inputs(), make.observation(narrow), 1, tables)
    assert any("outside the picture" in note for note in placement.notes)


def test_a_path_is_not_longer_than_a_needle(make: Any, tables: ClinicalTables) -> None:
    """Deep sites are reached steeply, and not at all beyond the longest needle."""
    scale = make.calibration(0.5)
    section = make.section(make.ellipse(), scale, skin_row=0)
    deep = path_to(make, tables, ImagePoint(column=200, row=150), section)  # 75 mm deep
    assert deep.angle_deg == 60
    assert deep.length_mm == pytest.approx(75 / math.sin(math.radians(60)))
    assert path_to(make, tables, ImagePoint(column=200, row=190), section) is None


def test_a_site_above_the_skin_has_no_path(make: Any, tables: ClinicalTables) -> None:
    """A point above the skin line cannot be reached."""
    section = make.section(skin_row=50)
    assert path_to(make, tables, ImagePoint(column=200, row=50), section) is None


def test_possible_bone_is_named(make: Any, tables: ClinicalTables) -> None:
    """A bright line with a shadow behind it is named as possible bone and kept clear of."""
    bone = box((58, 62), (120, 160))
    section = make.section(possible_bone=bone, skin_row=10)
    path = path_to(make, tables, ImagePoint(column=180, row=110), section)
    assert path.approach == "in_plane_right"
    assert path.near == "possible bone"
    placement = place_sites(make.inputs(), make.observation(section), 1, tables)
    assert any("possibly bone" in note for note in placement.notes)


def test_distances_to_a_segment() -> None:
    """Beside, before and beyond a segment; to a point; and to nothing."""
    a, b = (
        TissuePoint(lateral_mm=0.0, depth_mm=0.0),
        TissuePoint(lateral_mm=10.0, depth_mm=0.0),
    )
    for x, y, expected in ((5, 3, 3), (-3, 4, 5), (13, 4, 5)):
        assert distance_to_segment_mm(np.array([[x, y]], dtype=float), a, b) == expected
    assert distance_to_segment_mm(np.array([[3.0, 4.0]]), a, a) == 5
    assert math.isinf(distance_to_segment_mm(np.zeros((0, 2)), a, b))


def test_the_rim_is_what_touches_the_outside() -> None:
    """The rim of a 4 × 4 square is its 12 outer pixels."""
    assert int(rim(np.ones((4, 4), dtype=np.bool_)).sum()) == 12


# --- placing ----------------------------------------------------------------------------------


def test_four_sites_of_a_square_are_its_quarters(make: Any, tables: ClinicalTables) -> None:
    """A square muscle gets four sites in the middles of its quarters."""
    section = make.section(box((50, 250), (100, 300)))
    sites = place_sites(make.inputs(), make.observation(section), 4, tables).sites
    where = sorted((round(s.point.column), round(s.point.row)) for s in sites)
    for (column, row), (x, y) in zip(
        where, [(158, 108), (158, 192), (242, 108), (242, 192)], strict=True
    ):
        assert (column, row) == (pytest.approx(x, abs=4), pytest.approx(y, abs=4))
    assert [s.number for s in sites] == [1, 2, 3, 4]


def test_a_flat_muscle_gets_a_row(make: Any, tables: ClinicalTables) -> None:
    """A flat muscle gets its sites side by side."""
    section = make.section(box((120, 180), (20, 380)))
    sites = place_sites(make.inputs(), make.observation(section), 3, tables).sites
    assert [s.point.row for s in sites] == pytest.approx([150, 150, 150], abs=0.5)
    gaps = np.diff([s.point.column for s in sites])
    assert gaps[0] == pytest.approx(gaps[1], abs=1)


def test_a_thin_muscle_gets_a_smaller_margin(make: Any, tables: ClinicalTables) -> None:
    """A muscle 5 mm thick gets half of what it has, and the plan says so; 1.5 mm gets no site."""
    thin = place_sites(
        make.inputs(), make.observation(make.section(box((100, 150), (50, 350)))), 1, tables
    )
    assert any("the muscle is thin" in note for note in thin.notes)
    assert thin.sites[0].margin_mm >= 1
    sliver = place_sites(
        make.inputs(), make.observation(make.section(box((100, 115), (50, 350)))), 1, tables
    )
    assert sliver.refused is not None
    assert "1 mm inside" in sliver.refused.reason


def test_a_small_muscle_gets_fewer_sites(make: Any, tables: ClinicalTables) -> None:
    """Sites nearer than 5 mm are one site: fewer are placed, and the plan says so."""
    section = make.section(box((100, 180), (100, 180)))
    placement = place_sites(make.inputs(), make.observation(section), 4, tables)
    assert len(placement.sites) == 1
    assert any("too small for 4 sites" in note for note in placement.notes)
    assert any("1 of 4 sites" in note for note in placement.notes)


def test_more_sites_than_cells_is_no_error(make: Any) -> None:
    """Three sites on two cells fall back to their middle."""
    cells = np.array([[0.0, 0.0], [2.0, 0.0]])
    assert spread_evenly(cells, 3).tolist() == [[1.0, 0.0]] * 3
    one = spread_evenly(np.array([[0.0, 0.0], [2.0, 0.0], [9.0, 0.0], [11.0, 0.0]]), 2)
    assert one.tolist() == [[1.0, 0.0], [10.0, 0.0]]
    few = spread_evenly(np.array([[1.0, 1.0], [1.0, 3.0], [5.0, 2.0], [5.0, 4.0]]), 3)
    assert few.shape == (3, 2)
    assert np.isfinite(few).all()


def test_a_site_moves_to_where_a_needle_reaches(make: Any, tables: ClinicalTables) -> None:
    """Under a lid of vessels the site moves aside until a path is clear, and the plan says so."""
    lid = box((20, 30), (150, 250))
    section = make.section(box((100, 280), (60, 340)), avoid=lid, skin_row=0)
    steep = replace(
        tables,
        policy=replace(tables.policy, needle_angles_deg=(80.0,), avoid_margin_mm=2.0),
    )
    placement = place_sites(make.inputs(), make.observation(section), 1, steep)
    (site,) = placement.sites
    assert site.moved
    assert site.path is not None
    assert site.path.clear
    assert any("was moved" in note for note in placement.notes)


def test_a_site_that_no_needle_reaches_is_dropped(make: Any, tables: ClinicalTables) -> None:
    """Where the whole muscle lies behind a vessel the sites are dropped and the plan refuses."""
    lid = box((20, 30), (0, 400))
    section = make.section(box((100, 280), (60, 340)), avoid=lid, skin_row=0)
    steep = replace(tables, policy=replace(tables.policy, needle_angles_deg=(85.0,)))
    placement = place_sites(make.inputs(), make.observation(section), 2, steep)
    assert placement.sites == ()
    assert placement.refused is not None
    assert "a site was dropped" in placement.refused.reason


def test_a_moved_site_keeps_its_distance(make: Any, tables: ClinicalTables) -> None:
    """A site that moves does not move onto another site."""
    lid = box((20, 30), (120, 400))
    section = make.section(box((60, 280), (40, 360)), avoid=lid, skin_row=0)
    steep = replace(tables, policy=replace(tables.policy, needle_angles_deg=(80.0,)))
    placement = place_sites(make.inputs(), make.observation(section), 6, steep)
    assert any(site.moved for site in placement.sites)
    scale = section.calibration
    for a in placement.sites:
        for b in placement.sites:
            assert a.number == b.number or scale.distance_mm(a.point, b.point) >= 5


def test_two_lobes_have_their_site_in_one_of_them(make: Any, tables: ClinicalTables) -> None:
    """Where the middle of a long-axis belly lies outside the muscle, the nearest lobe is taken."""
    lobes = box((100, 200), (50, 150)) | box((100, 200), (250, 350))
    observation = make.observation(make.section(lobes), view="long_axis")
    (site,) = place_sites(make.inputs(), observation, 1, tables).sites
    assert lobes[int(site.point.row), int(site.point.column)]


def test_a_mask_of_dots_has_no_room(make: Any, tables: ClinicalTables) -> None:
    """A mask without any solid part has no place for a site."""
    dots = np.zeros((400, 400), dtype=np.bool_)
    dots[::2, ::2] = True
    placement = place_sites(make.inputs(), make.observation(make.section(dots)), 1, tables)
    assert placement.refused is not None


def test_nothing_outlined_nothing_placed(make: Any, tables: ClinicalTables) -> None:
    """An empty mask or no section is a refusal."""
    empty = make.section(box((0, 0), (0, 0)))
    for observation in (make.observation(empty), replace(make.observation(), sections=())):
        placement = place_sites(make.inputs(), observation, 1, tables)
        assert placement.refused is not None


# --- frames of a sweep ------------------------------------------------------------------------


def test_sites_lie_on_the_belly_of_a_sweep(make: Any, tables: ClinicalTables) -> None:
    """Without a reference line the sites lie on the larger sections, spread along the muscle."""
    placement = place_sites(make.inputs(sweep=Sweep(spacing_mm=10)), sweep_of(make), 4, tables)
    keys = [int(site.frame_key) for site in placement.sites]
    assert len(keys) == 4
    assert len(set(keys)) == 4
    assert min(keys) >= 2
    assert max(keys) <= 8
    assert any("half of the largest area" in note for note in placement.notes)


def test_sites_lie_in_the_endplate_zone(make: Any, tables: ClinicalTables) -> None:
    """On coracoid–medial epicondyle 60 to 80 %, the frames at 64.6 to 70.3 % carry the sites."""
    sweep = Sweep(
        spacing_mm=10,
        reference_line="coracoid_medial_epicondyle",
        start_percent=60,
        end_percent=80,
    )
    placement = place_sites(make.inputs(sweep=sweep), sweep_of(make), 3, tables)
    assert {site.frame_key for site in placement.sites} == {"3", "4", "5"}
    assert any("H_LEE10" in note for note in placement.notes)
    crowded = place_sites(make.inputs(sweep=sweep), sweep_of(make), 4, tables)
    counts = dict.fromkeys("345", 0)
    for site in crowded.sites:
        counts[site.frame_key] += 1
    assert counts == {"3": 1, "4": 1, "5": 2}  # the largest section takes the extra one


def test_a_zone_of_one_point_reaches_a_little(make: Any, tables: ClinicalTables) -> None:
    """A motor point at 50 % takes in the frames within 5 %."""
    sweep = Sweep(
        spacing_mm=10,
        reference_line="coracoid (0) to lateral epicondyle (100)",
        start_percent=0,
        end_percent=100,
    )
    placement = place_sites(make.inputs(sweep=sweep), sweep_of(make), 1, tables)
    assert [site.frame_key for site in placement.sites] == ["5"]


def test_a_sweep_beside_the_zone_is_refused(make: Any, tables: ClinicalTables) -> None:
    """A sweep that misses the endplate zone gets no site, and is told where to go."""
    sweep = Sweep(
        spacing_mm=10,
        reference_line="coracoid_medial_epicondyle",
        start_percent=0,
        end_percent=30,
    )
    placement = place_sites(make.inputs(sweep=sweep), sweep_of(make), 2, tables)
    assert placement.refused is not None
    assert "64.6 to 70.3 %" in placement.refused.reason


@pytest.mark.parametrize(
    ("muscle", "line"),
    [
        ("gastrocnemius_medial", "fibular_head_calcaneus"),
        ("flexor_digitorum_profundus", "forearm_midline"),
        ("biceps_brachii", "a line of our own"),
    ],
)
def test_a_zone_without_a_known_direction_chooses_no_frame(
    make: Any, tables: ClinicalTables, muscle: str, line: str
) -> None:
    """Where the source does not say which end is 0 the zone is told in words only."""
    sweep = Sweep(spacing_mm=10, reference_line=line, start_percent=0, end_percent=100)
    placement = place_sites(make.inputs(muscle=muscle, sweep=sweep), sweep_of(make), 1, tables)
    assert any("half of the largest area" in note for note in placement.notes)


def test_endplates_are_told_with_line_source_and_conflict(tables: ClinicalTables) -> None:
    """The words name reference line and source, contradictions included, or that none is known."""
    biceps = " ".join(endplate_words("biceps_brachii", tables))
    for word in ("olecranon (0) to acromion (100)", "H_PARK07", "against 65–70 %"):
        assert word in biceps
    assert "which end is 0 is not stated" in " ".join(
        endplate_words("gastrocnemius_medial", tables)
    )
    assert "no percentages found" in " ".join(endplate_words("soleus", tables))
    assert endplate_words("deltoid", tables) == (
        "No endplate zone of Deltoid was found in a source.",
    )


def test_a_sweep_with_empty_frames_uses_the_others(make: Any, tables: ClinicalTables) -> None:
    """Frames that do not show the muscle carry no site."""
    shown = sweep_of(make, 5)
    empty = make.section(box((0, 0), (0, 0)), frame_key="empty", position_mm=50.0)
    observation = make.observation(*shown.sections, empty)
    placement = place_sites(make.inputs(sweep=Sweep(spacing_mm=10)), observation, 5, tables)
    assert "empty" not in {site.frame_key for site in placement.sites}


# --- by hand ----------------------------------------------------------------------------------


def moved(column: float, row: float, number: int = 1, frame_key: str = "0") -> MovedSite:
    return MovedSite(number=number, frame_key=frame_key, point=ImagePoint(column=column, row=row))


def checked(make: Any, tables: ClinicalTables, site: MovedSite, section: Any) -> InjectionSite:
    found = check_moved_site(site, make.observation(section), tables)
    assert isinstance(found, InjectionSite)
    return found


def test_a_good_place_violates_nothing(make: Any, tables: ClinicalTables) -> None:
    """A site put into the middle of the muscle violates nothing."""
    site = checked(make, tables, moved(200, 140), make.section())
    assert site.violations == ()
    assert site.by_hand
    assert site.depth_mm == pytest.approx(13.5)
    assert site.margin_mm == pytest.approx(6, abs=0.2)


@pytest.mark.parametrize(
    ("site", "word"),
    [
        (moved(200, 20), "outside the muscle"),
        (moved(-5, 20), "outside the muscle"),
        (moved(200, 82), "from the muscle's edge"),
        (moved(240, 140), "from a nerve or vessel"),
        (moved(140, 160), "from possible bone"),
    ],
)
def test_what_a_moved_site_violates_is_named(
    make: Any, tables: ClinicalTables, site: MovedSite, word: str
) -> None:
    """Outside, near the edge, near a nerve, near bone: named, and the point stays where it is."""
    section = make.section(
        avoid=box((130, 150), (250, 270)), possible_bone=box((170, 180), (120, 160))
    )
    found = checked(make, tables, site, section)
    assert any(word in violation for violation in found.violations)
    assert found.point == site.point


def test_a_place_that_no_needle_reaches_is_named(make: Any, tables: ClinicalTables) -> None:
    """A site behind a lid of vessels is told to have no path."""
    section = make.section(avoid=box((20, 30), (0, 400)), skin_row=0)
    found = checked(make, tables, moved(200, 140), section)
    assert any("No needle path" in violation for violation in found.violations)
    assert found.path is None


@pytest.mark.parametrize("frame_key", ["0", "nowhere"])
def test_a_site_on_a_frame_without_muscle(
    make: Any, tables: ClinicalTables, frame_key: str
) -> None:
    """A site on a frame that shows no muscle, or does not exist, is refused."""
    section = make.section(box((0, 0), (0, 0)))
    found = check_moved_site(moved(5, 5, frame_key=frame_key), make.observation(section), tables)
    assert isinstance(found, SitesRefused)


def test_a_plan_keeps_its_checks_when_sites_are_moved(make: Any, tables: ClinicalTables) -> None:
    """Moved and added sites share the dose; what they violate stands in the cautions."""
    inputs, observation = make.inputs(), make.observation()
    before = plan_muscle(inputs, observation, tables, today=make.today)
    count = len(before.sites)
    plan = plan_muscle(
        inputs,
        observation,
        tables,
        today=make.today,
        moved_sites=[moved(200, 82), moved(203, 90, number=count + 1)],
    )
    assert len(plan.sites) == count + 1
    assert sum(site.units or 0 for site in plan.sites) == pytest.approx(plan.dose.units.value)
    texts = [c.text for c in plan.cautions if c.code == "site_moved_by_hand"]
    assert any("from the muscle's edge" in text for text in texts)
    assert any("from site" in text for text in texts)
    on_nowhere = plan_muscle(
        inputs, observation, tables, today=make.today, moved_sites=[moved(5, 5, frame_key="9")]
    )
    assert on_nowhere.sites_refused is not None
    assert not on_nowhere.may_be_confirmed
    uncalibrated = make.observation(make.section(calibrated=False))
    plan = plan_muscle(
        inputs, uncalibrated, tables, today=make.today, moved_sites=[moved(200, 140)]
    )
    assert plan.sites == ()
