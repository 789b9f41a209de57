"""The transformations that users apply to functions: `compile`, `value_and_grad`, `grad`, and `compile_graph`."""
