"""XLA's text of compiled programs: written by hand, and by the compiler that is here."""

import jax
import jax.numpy as jnp
import pytest

from tskd_jax.machine import hlo, instruction

TEXT = """HloModule jit_f, is_scheduled=true

%moved (p: f32[64,512]) -> f32[512,64] {
  %p = f32[64,512]{1,0} parameter(0)
  ROOT %t = f32[512,64]{1,0} transpose(%p), dimensions={1,0}
}

%product (p.1: f32[512,64], p.2: bf16[64,8]) -> f32[512,8] {
  %p.1 = f32[512,64]{1,0} parameter(0)
  %p.2 = bf16[64,8]{1,0} parameter(1)
  ROOT %dot.1 = f32[512,8]{1,0} dot(%p.1, %p.2), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%body (arg: (f32[64,512], bf16[64,8])) -> (f32[64,512], bf16[64,8]) {
  %arg = (f32[64,512]{1,0}, bf16[64,8]{1,0:T(8,128)(2,1)}) parameter(0)
  %x = f32[64,512]{1,0} get-tuple-element(%arg), index=0
  %y = bf16[64,8]{1,0} get-tuple-element(%arg), index=1
  %turned = f32[512,64]{1,0} fusion(%x), kind=kInput, calls=%moved
  %gemm = f32[512,8]{1,0} fusion(%turned, %y), kind=kCustom, calls=%product, \
backend_config={"fusion_backend_config":{"kind":"__triton_gemm"},"estimated_cycles":"70"}
  %conv = (f32[64,8]{1,0}, u8[16]{0}) custom-call(%x, %y), custom_call_target="__cudnn$convForward"
  %kept = f32[64,512]{1,0:T(8,128)} copy(%x)
  %sum = f32[512,8]{1,0} all-reduce(%gemm), replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%moved
  ROOT %out = (f32[64,512]{1,0}, bf16[64,8]{1,0}) tuple(%x, %y)
}

ENTRY %main (a: f32[64,512], b: bf16[64,8]) -> f32[64,512] {
  %a = f32[64,512]{1,0} parameter(0)
  %b = bf16[64,8]{1,0} parameter(1)
  %copy.1 = f32[64,512]{0,1} copy(%a)
  %both = (f32[64,512]{1,0}, bf16[64,8]{1,0}) tuple(%copy.1, %b)
  %loop = (f32[64,512]{1,0}, /*index=1*/bf16[64,8]{1,0}) while(%both), condition=%cond, \
body=%body, backend_config={"known_trip_count":{"n":"200"}}
  ROOT %result = f32[64,512]{1,0} get-tuple-element(%loop), index=0
}
"""
X, XT, Y, XY = 4 * 64 * 512, 4 * 64 * 512, 2 * 64 * 8, 4 * 512 * 8


@pytest.fixture(scope="module")
def program():
    return hlo.read(TEXT)


def test_kernels_count_as_often_as_their_loop_turns(program):
    assert program.count("triton") == 200
    assert program.count("cudnn") == 200
    assert program.count("collective") == 200
    assert program.count("copy") == 401  # one before the loop
    assert program.count() == 5 * 200 + 1
    assert program.of_loops().count() == 5 * 200


@pytest.mark.parametrize(
    ("limit", "direction", "turns"),
    [("7", "LT", 7), ("7", "GT", 1), ("get-tuple-element", "LT", 1)],
)
def test_a_count_says_how_often_a_loop_turns_where_xla_does_not(limit, direction, turns):
    given = f"constant({limit})" if limit.isdigit() else "get-tuple-element(%both), index=1"
    condition = f"""%cond (both: (s32[], s32[])) -> pred[] {{
  %both = (s32[], s32[]) parameter(0)
  %limit = s32[]{{:T(128)}} {given}
  %count = s32[]{{:T(128)}} get-tuple-element(%both), index=0
  ROOT %lt = pred[]{{:T(512)}} compare(%count, %limit), direction={direction}
}}

"""
    counted = TEXT.replace(', backend_config={"known_trip_count":{"n":"200"}}', "")
    found = hlo.read(counted.replace("%body (arg", condition + "%body (arg"))
    assert found.count("cudnn") == turns


def test_bytes_are_those_of_operands_and_results(program):
    assert program.bytes("triton") == 200 * (XT + Y + XY)
    assert program.bytes("cudnn") == 200 * (X + Y + 4 * 64 * 8)  # without its workspace
    assert program.bytes("collective") == 200 * 2 * XY
    assert program.bytes("copy") == 200 * (X + XT + 2 * X) + 2 * X


PARTS = """HloModule parts

%looked_up (p: f32[2000000,14], i: s32[32,1]) -> f32[32,14] {
  %p = f32[2000000,14]{1,0} parameter(0)
  %i = s32[32,1]{1,0} parameter(1)
  %same = f32[2000000,14]{1,0} bitcast(%p)
  %g.1 = f32[32,14]{1,0} gather(%same, %i), offset_dims={1}
  ROOT %n = f32[32,14]{1,0} negate(%g.1)
}

%also_summed (p.1: f32[2000000,14], i.1: s32[32,1]) -> f32[14] {
  %i.1 = s32[32,1]{1,0} parameter(1)
  %p.1 = f32[2000000,14]{1,0} parameter(0)
  %g.2 = f32[32,14]{1,0} gather(%p.1, %i.1), offset_dims={1}
  ROOT %r = f32[14]{0} reduce(%p.1, %g.2), dimensions={0}
}

%stacked (p.2: f32[200,8,14], x: f32[8,14], i.2: s32[]) -> f32[200,8,14] {
  %p.2 = f32[200,8,14]{2,1,0} parameter(0)
  %x = f32[8,14]{1,0} parameter(1)
  %i.2 = s32[] parameter(2)
  %turned = f32[1,8,14]{2,1,0} bitcast(%x)
  ROOT %u.1 = f32[200,8,14]{2,1,0} dynamic-update-slice(%p.2, %turned, %i.2, %i.2, %i.2)
}

%first_doubled (p.3: f32[200,8,14], x.1: f32[8,14], i.3: s32[]) -> f32[200,8,14] {
  %p.3 = f32[200,8,14]{2,1,0} parameter(0)
  %x.1 = f32[8,14]{1,0} parameter(1)
  %i.3 = s32[] parameter(2)
  %turned.1 = f32[1,8,14]{2,1,0} bitcast(%x.1)
  %twice = f32[200,8,14]{2,1,0} add(%p.3, %p.3)
  ROOT %u.2 = f32[200,8,14]{2,1,0} dynamic-update-slice(%twice, %turned.1, %i.3, %i.3, %i.3)
}

ENTRY %main (d: f32[2000000,14], at: s32[32,1], t: s32[], levels: f32[200,8,14]) -> f32[32,14] {
  %d = f32[2000000,14]{1,0} parameter(0)
  %at = s32[32,1]{1,0} parameter(1)
  %t = s32[] parameter(2)
  %g = f32[32,14]{1,0} gather(%d, %at), offset_dims={1}
  %s = f32[8,14]{1,0} dynamic-slice(%d, %t, %t), dynamic_slice_sizes={8,14}
  %f = f32[32,14]{1,0} fusion(%d, %at), kind=kLoop, calls=%looked_up
  %w = f32[14]{0} fusion(%d, %at), kind=kLoop, calls=%also_summed
  %levels = f32[200,8,14]{2,1,0} parameter(3)
  %one = f32[1,8,14]{2,1,0} bitcast(%s)
  %u = f32[200,8,14]{2,1,0} dynamic-update-slice(%levels, %one, %t, %t, %t)
  %v = f32[200,8,14]{2,1,0} fusion(%u, %s, %t), kind=kLoop, calls=%stacked
  %z = f32[200,8,14]{2,1,0} fusion(%v, %s, %t), kind=kLoop, calls=%first_doubled
  %c = (f32[32,14]{1,0}, f32[32,14]{1,0}, u32[]) copy-start(%g)
  ROOT %e = f32[32,14]{1,0} copy-done(%c)
}
"""


def test_of_what_is_only_gathered_from_the_bytes_are_those_that_are_taken():
    moved = {one.instruction.name: one.bytes for one in hlo.read(PARTS).kernels}
    rows, index, data, part = 4 * 32 * 14, 4 * 32, 4 * 2_000_000 * 14, 4 * 8 * 14
    assert moved == {
        "g": 2 * rows + index,
        "s": 2 * 4 * 8 * 14 + 2 * 4,
        "f": 2 * rows + index,
        "w": data + index + 4 * 14,  # a sum needs all of it
        "u": 2 * part + 3 * 4,  # in place: the new part is read and written
        "v": 2 * part + 4,
        "z": 2 * 200 * part + part + 4,  # something else than what was given is updated
        "c": 2 * rows + 4,  # once read and once written, and its token
    }


def test_what_a_device_sends_goes_round_a_ring(program):
    assert program.sent() == 200 * 2 * 3 * XY // 4


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("replica_groups={{0,1,2}}, x", 3),
        ("replica_groups=[2,4]<=[8], x", 4),
        ("replica_groups=[4,2]<=[2,4]T(1,0), x", 2),
        ("replica_groups=mesh['a'=8,'b'=2,'c'=4] {'a','c'}, x", 32),
        ("replica_groups={}, x", 1),
    ],
)
def test_how_many_are_together(groups, size):
    assert instruction.group_size(groups) == size


def test_cycles_are_those_that_the_compiler_names(program):
    assert program.cycles()["triton"] == 200 * 70
    assert program.cycles()["cudnn"] == 0


# As XLA prints products of float32 for an H100: in a Triton kernel, by cuDNN and by an algorithm.
PRECISION = """\
HloModule m

%inside (p: f32[8,8], q: f32[8,8]) -> f32[8,8] {
  %p = f32[8,8]{1,0} parameter(0)
  %q = f32[8,8]{1,0} parameter(1)
  ROOT %dot.1 = f32[8,8]{1,0} dot(%p, %q), lhs_contracting_dims={1}, rhs_contracting_dims={0}ASKED
}

ENTRY %main (a: f32[8,8], b: f32[8,8]) -> f32[8,8] {
  %a = f32[8,8]{1,0} parameter(0)
  %b = f32[8,8]{1,0} parameter(1)
  %c = f32[8,8]{1,0} fusion(%a, %b), kind=kCustom, calls=%inside
  ROOT %d = (f32[8,8]{1,0}, u8[0]{0}) custom-call(%c, %b)ASKED, custom_call_target="__cudnn$conv"
}
"""


@pytest.mark.parametrize(
    ("asked", "precise"),
    [
        ("", 0),
        (", operand_precision={default,default}", 0),
        (", algorithm=dot_tf32_tf32_f32", 0),
        (", algorithm=dot_bf16_bf16_f32", 0),
        (", operand_precision={highest,highest}", 2),
        (", operand_precision={default,high}", 2),
        (", algorithm=dot_f32_f32_f32", 2),
        (", algorithm=dot_tf32_tf32_f32_x3", 2),
    ],
)
def test_products_of_which_full_precision_is_asked(asked, precise):
    assert hlo.read(PRECISION.replace("ASKED", asked)).precise_products() == precise


def test_a_layout_copy_is_a_large_one_in_a_loop(program):
    (found,) = program.layout_copies()
    assert found.instruction.name == "turned"  # and not what only lies at another place
    assert program.layout_copies(at_least=X + XT + 1) == []


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[]", 4),
        ("pred[3]", 3),
        ("bf16[2,3]{1,0:T(8,128)(2,1)}", 12),
        ("(f32[2], (s4[4], /*index=2*/u8[5]))", 8 + 2 + 5),
        ("f8e4m3fn[16]", 16),
        ("token[]", 0),
    ],
)
def test_the_size_of_a_shape(shape, size):
    assert instruction.size_of(shape) == size


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no entry"):
        hlo.read("nothing")


def test_what_the_compiler_here_writes():
    def repeated(x, y):
        def turn(x, _):
            return jnp.tanh(x @ y), None

        return jax.lax.scan(turn, x, None, length=7)[0]

    x = jnp.ones((300, 300))
    found = hlo.read(jax.jit(repeated).lower(x, x).compile().as_text())
    assert found.count("product", "custom") == 7
    # Each product reads two matrices and writes one.
    assert found.bytes("product", "custom") == pytest.approx(7 * 3 * x.nbytes, rel=0.01)
