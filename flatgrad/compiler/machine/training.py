"""The loop around training steps as machine code: batches, numbers of the step, losses, and the way back of results."""

from __future__ import annotations

from typing import NamedTuple


class StepLayout(NamedTuple):
    """Where a training step has its arguments and results in memory.

    The arguments are the batch (x, then y), what is trained (parameters and the optimiser's state), and the numbers of
    the step; the results are the loss and what is trained, one behind the other.

    Attributes:
        rows: of a batch.
        x_width, y_width: numbers per row.
        trained: where parameters and state begin, and how many numbers they are.
        numbers: where the numbers of a step begin, and how many they are.
        loss: where the loss is; what is trained follows behind it.
    """

    rows: int
    x_width: int
    y_width: int
    trained: tuple[int, int]
    numbers: tuple[int, int]
    loss: int


def training_loop(layout: StepLayout) -> str:
    """Assembly of `train`, which calls `run` for each step.

    It returns how many steps were completed. If these are fewer than asked for, the next one had a fault or, if
    `strict`, a loss that is not finite; what is trained is then as that step found it. Without an order of rows, the
    batch stays what it is.
    """
    rows, x_width, y_width, trained, numbers, loss = layout
    batch = [("x", "%X", 0, x_width), ("y", "%Y", rows * x_width, y_width)]
    gather = []
    for name, source, place, width in batch:
        gather += [
            f"  %{name}from = mul i64 %row, {8 * width}",
            f"  %{name}source = getelementptr i8, ptr {source}, i64 %{name}from",
            f"  %{name}offset = mul i64 %k, {8 * width}",
            f"  %{name}to = add i64 %{name}offset, {8 * place}",
            f"  %{name}target = getelementptr i8, ptr %m, i64 %{name}to",
            f"  call void @llvm.memcpy.p0.p0.i64(ptr %{name}target, ptr %{name}source, i64 {8 * width}, i1 false)",
        ]
    return "\n".join(
        [
            "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",
            "",
            "define i64 @train(ptr %m, ptr %b, ptr %t, ptr %r, ptr %order, ptr %X, ptr %Y, ptr %numbers, ptr %losses,",
            "                  i64 %steps, i32 %strict) #0 {",
            "entry:",
            "  %some = icmp sgt i64 %steps, 0",
            "  %given = icmp ne ptr %order, null",
            "  br i1 %some, label %step, label %done",
            "step:",
            "  %s = phi i64 [ 0, %entry ], [ %after, %keep ]",
            "  br i1 %given, label %gather, label %compute",
            "gather:",
            f"  %first = mul i64 %s, {rows}",
            "  br label %next",
            "next:",
            "  %k = phi i64 [ 0, %gather ], [ %following, %next ]",
            "  %place = add i64 %first, %k",
            "  %where = getelementptr i64, ptr %order, i64 %place",
            "  %row = load i64, ptr %where",
            *gather,
            "  %following = add i64 %k, 1",
            f"  %more = icmp ult i64 %following, {rows}",
            "  br i1 %more, label %next, label %compute",
            "compute:",
            f"  %own = mul i64 %s, {8 * numbers[1]}",
            "  %given_numbers = getelementptr i8, ptr %numbers, i64 %own",
            f"  %own_numbers = getelementptr double, ptr %m, i64 {numbers[0]}",
            f"  call void @llvm.memcpy.p0.p0.i64(ptr %own_numbers, ptr %given_numbers, i64 {8 * numbers[1]}, i1 false)",
            "  %fault = call i32 @run(ptr %m, ptr %b, ptr %t, ptr %r)",
            "  %faulty = icmp ne i32 %fault, 0",
            f"  %lossplace = getelementptr double, ptr %m, i64 {loss}",
            "  %loss = load double, ptr %lossplace",
            "  %difference = fsub double %loss, %loss",
            "  %nonfinite = fcmp uno double %difference, %difference",
            "  %isstrict = icmp ne i32 %strict, 0",
            "  %refused = and i1 %nonfinite, %isstrict",
            "  %stop = or i1 %faulty, %refused",
            "  br i1 %stop, label %stopped, label %keep",
            "keep:",
            "  %lossto = getelementptr double, ptr %losses, i64 %s",
            "  store double %loss, ptr %lossto",
            f"  %new = getelementptr double, ptr %m, i64 {loss + 1}",
            f"  %old = getelementptr double, ptr %m, i64 {trained[0]}",
            f"  call void @llvm.memcpy.p0.p0.i64(ptr %old, ptr %new, i64 {8 * trained[1]}, i1 false)",
            "  %after = add i64 %s, 1",
            "  %again = icmp slt i64 %after, %steps",
            "  br i1 %again, label %step, label %done",
            "stopped:",
            "  ret i64 %s",
            "done:",
            "  ret i64 %steps",
            "}",
            "",
        ]
    )
