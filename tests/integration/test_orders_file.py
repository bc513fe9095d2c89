"""Orders, as files between healing and the scorers."""

import pytest

from fraud_platform.adapters.orders_file import known_orders, read_orders, write_orders
from fraud_platform.errors import PermanentError
from fraud_platform.orders import NORMAL, Orders

SHED = Orders(is_shedding=True, because={"shed": "act-1"})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home" / "orders.json"


def test_without_a_file_nothing_is_ordered(path):
    assert read_orders(path) == NORMAL
    assert known_orders(path) == ()


def test_orders_come_back_as_they_were_written_with_a_sequence_that_grows(path):
    written = [write_orders(path, SHED), write_orders(path, NORMAL), write_orders(path, SHED)]
    assert [orders.sequence for orders in written] == [1, 2, 3]
    assert read_orders(path) == written[-1]
    assert written[-1].because == {"shed": "act-1"}


def test_every_order_that_ever_was_is_known_once_by_what_it_orders(path):
    for orders in (SHED, NORMAL, SHED, Orders(quarantined=("money",))):
        write_orders(path, orders)
    told = {SHED.digest, NORMAL.digest, Orders(quarantined=("money",)).digest}
    assert {orders.digest for orders in known_orders(path)} == told
    assert len(known_orders(path)) == len(told)


@pytest.mark.parametrize(
    "orders", [Orders(quarantined=("weather",)), Orders(unit_factors={"weather": 2.0})]
)
def test_orders_about_what_does_not_exist_are_not_written(path, orders):
    write_orders(path, SHED)
    with pytest.raises(PermanentError, match="weather"):
        write_orders(path, orders)
    assert read_orders(path).digest == SHED.digest


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"audit_factor": 0.5}', b'{"quarantined": ["weather"]}', b'{"x": 1}']
)
def test_a_damaged_file_is_refused_and_can_be_replaced(path, content):
    write_orders(path, SHED)
    path.write_bytes(content)
    with pytest.raises(PermanentError, match="no file of orders"):
        read_orders(path)
    assert write_orders(path, SHED) == read_orders(path)


def test_a_sealed_order_that_was_changed_is_no_proof_of_anything(path):
    write_orders(path, SHED)
    [sealed] = (path.parent / "orders").iterdir()
    sealed.write_bytes(sealed.read_bytes().replace(b"true", b"false"))
    with pytest.raises(PermanentError, match="expected its name"):
        known_orders(path)
