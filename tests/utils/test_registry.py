from __future__ import annotations

import pytest

from lucidet.utils.registry import Registry, locate


@pytest.fixture
def registry() -> Registry:
    table = Registry("META_ARCHITECTURE")

    @table.register()
    class RetinaNet: ...

    @table.register
    class FCOS: ...

    return table


def test_registers_as_decorator_with_and_without_call(registry):
    assert registry.get("RetinaNet").__name__ == "RetinaNet"
    assert "FCOS" in registry
    assert "ATSS" not in registry
    assert [name for name, _ in registry] == ["RetinaNet", "FCOS"]
    assert "META_ARCHITECTURE" in repr(registry)


def test_registers_by_call_a_function(registry):
    def build_tiny(): ...

    registry.register(build_tiny)
    assert registry.get("build_tiny") is build_tiny
    registry.register(build_tiny)  # the same object again is no conflict
    assert len(registry) == 3


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("RetinaNett", r"^unknown META_ARCHITECTURE 'RetinaNett'; did you mean 'RetinaNet'\?$"),
        ("retinanet", "did you mean 'RetinaNet'"),
        ("Mask2Former", "registered are: FCOS, RetinaNet"),
        ("", "registered are"),
    ],
)
def test_unknown_name_names_the_nearest(registry, asked, message):
    with pytest.raises(ValueError, match=message):
        registry.get(asked)
    with pytest.raises(KeyError):  # what callers of detectron2 catch
        registry.get(asked)


def test_empty_registry_says_so():
    with pytest.raises(KeyError, match="nothing is registered"):
        Registry("BACKBONE").get("ResNet")


def test_name_taken_by_another_object(registry):
    class FCOS: ...

    with pytest.raises(ValueError, match="META_ARCHITECTURE has a 'FCOS' already"):
        registry.register(FCOS)


def test_locate():
    assert locate("lucidet.utils.registry.Registry.get") is Registry.get
    for wrong in ("lucidet.utils.registry.Nothing", "no_such_package.x", "", "os.", "a b"):
        with pytest.raises(ImportError, match="cannot locate"):
            locate(wrong)
