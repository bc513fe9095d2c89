"""Walks over what was made of what: each way is the other way backwards."""

from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.lineage import Node, downstream, upstream

# Node n may be made of smaller ones only, as contents are made of older ones.
graphs = st.dictionaries(st.integers(0, 12), st.sets(st.integers(0, 11)), min_size=1).map(
    lambda made: {_node(n): {_node(m) for m in of if m < n} for n, of in made.items()}
)


def _node(number: int) -> Node:
    return Node("table", f"{number:02}", f"digest {number}")


@given(graphs)
def test_what_a_walk_up_reaches_reaches_back_down(made):
    nodes = set(made) | {one for of in made.values() for one in of}
    for start in nodes:
        below = upstream(start, lambda node: made.get(node, ()))
        for source in below.nodes:
            above = downstream([source], lambda node: [n for n in nodes if node in made.get(n, ())])
            assert start in above.nodes


@given(graphs)
def test_every_edge_of_a_walk_points_from_a_content_to_what_it_was_made_of(made):
    start = max(made)
    found = upstream(start, lambda node: made.get(node, ()))
    assert found.nodes[0] == start
    assert len(set(found.nodes)) == len(found.nodes)
    edges = {(found.nodes[a], found.nodes[b]) for a, b in found.edges}
    assert edges == {(node, one) for node in found.nodes for one in made.get(node, ())}


def test_a_circle_ends():
    one, two = _node(1), _node(2)
    assert set(upstream(one, {one: [two], two: [one]}.__getitem__).nodes) == {one, two}
