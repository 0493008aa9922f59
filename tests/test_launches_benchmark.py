"""The count of launches, on code and on operations that can be counted by hand."""

from importlib import import_module
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
GENERATED_CODE = """
cpp_fused_add_0 = async_compile.cpp_pybinding(['const float*'], \'\'\'...\'\'\')

class Runner:
    def call(self, args):
        arg0, arg1 = args
        assert_size_stride(arg0, (4, 4), (4, 1))
        buf0 = empty_strided_cpu((4, 4), (4, 1), torch.float32)
        cpp_fused_add_0(arg0, buf0)
        triton_poi_fused_add_1.run(buf0, 16, stream=stream0)
        buf1 = reinterpret_tensor(buf0, (4, 4), (1, 4), 0)
        # Topologically Sorted Source Nodes: [linear], Original ATen: [aten.addmm]
        extern_kernels.mm(buf0, buf1, out=buf2)
        buf3 = extern_kernels.convolution(arg1, buf2, stride=(1, 1))
        buf4 = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default(buf3, buf3, buf3)
        del buf0
        return (buf4, )

def benchmark_compiled_module():
    cpp_fused_add_0(1, 2)
"""


@pytest.fixture
def launches(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return import_module("launches")


def test_kernels_in_generated_code(launches):
    assert launches.kernels_in(GENERATED_CODE) == (2, 3)


def test_views_launch_nothing(launches):
    x = torch.randn(4, 6)
    with launches.Launches() as counted:
        (x.t().reshape(3, 8)[1] + 1).softmax(0)
    # a transposed matrix is copied to be reshaped
    assert counted.by_name == {"clone": 1, "add": 1, "_softmax": 1} and counted.number == 3


def test_a_graph_counts_each_time_it_is_called(launches):
    torch._dynamo.reset()
    layer = torch.nn.Linear(8, 8)
    compiled = torch.compile(lambda x: F.gelu(layer(x)) * 2)
    with torch.no_grad(), launches.GraphCalls() as graphs:
        for _ in range(3):
            compiled(torch.randn(4, 8))
    # one product and one kernel for the rest
    assert graphs.facts()["graphs"] == [{"calls": 3, "generated kernels": 1, "other kernels": 1}]
    assert graphs.facts()["generated kernels"] == graphs.facts()["other kernels"] == 3
