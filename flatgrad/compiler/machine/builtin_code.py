"""The code of builtins, in LLVM assembly; `builtin` says what it does, and in which words."""

from __future__ import annotations

from typing import Final

from . import watch_code
from .builtin import (
    ARRAY,
    DIMENSIONS,
    ITEMS,
    LEAVES,
    MAPPING,
    NUMBER,
    NUMBERS,
    OBJECT,
    OUTPUTS,
    PART_WORDS,
    WORDS,
    load,
)
from .macros import branch, each, field, item, require
from .objects import CONTIGUOUS_ALIGNED, At

_PART: Final = f"[{PART_WORDS} x i64]"


def _part(*fields: str) -> str:
    """Load words of `%part`."""
    kinds = {"kind": "i64", "size": "i64", "place": "ptr", "detail": "i64"}
    return "\n  ".join(field(name, kinds[name], "%part", 8 * list(kinds).index(name)) for name in fields)


#: Where the lengths of an array, or the address of keys or leaves, and the output of an array are in a part.
_LENGTHS, _OUTPUT = 8 * 4, 8 * (4 + DIMENSIONS)

#: For kernels with guards: their calls are counted, and a failing guard leads to the builtin of another way. On the way
#: there, the guards that fail are later and later ones; what does not keep to this is handed over.
_RESET: Final = "  store i64 0, ptr @turned\n"
_COUNT: Final = f"""\
{_RESET}  {load("calls")}
  %calls.so_far = load i64, ptr %calls
  %calls.now = add i64 %calls.so_far, 1
  store i64 %calls.now, ptr %calls
"""
_TURN: Final = f"""\
turned:
  call void @drop_root(ptr %c, ptr %root)
  {load("turns")}
  %guard.number = lshr i32 %fault, 1
  %guard = zext i32 %guard.number to i64
  %guard.before = load i64, ptr @turned
  {require("icmp ne ptr %turns, null", "hand_over")}
  {require("icmp ugt i64 %guard, %guard.before", "hand_over")}
  %guards = load i64, ptr %turns
  {require("icmp ule i64 %guard, %guards", "hand_over")}
  {item("target", "ptr", "%turns", "%guard")}
  {require("icmp ne ptr %target, null", "hand_over")}
  store i64 %guard, ptr @turned
  {load("call", name="call_target")}
  %answer.there = call ptr %call_target(ptr %target, ptr %args, i64 %count, ptr %names)
  ret ptr %answer.there
"""


def _function(name: str, fault: str, count: str, turn: str) -> str:
    """The code of a kind of builtins: `fault` says where it goes after one, to `turn` if there are guards."""
    reset = _RESET if turn else ""
    return f"""\
define ptr @{name}(ptr %self, ptr %args, i64 %count, ptr %names) #0 {{
entry:
  %root = alloca ptr                   ; what is returned
  %places = alloca [{OUTPUTS} x ptr]   ; where the kernel puts its outputs
  {field("c", "ptr", "%self", At.DATA)}
  {load("parameters", "i64")}
  {load("arguments", "i64")}
  {load("active")}
  {load("positional", "i64")}
  {require("icmp sle i64 %count, %positional", "hand_over")}
  {branch("icmp eq ptr %names, null", "by_place", "by_name")}
by_place:
  {branch("icmp eq i64 %count, %parameters", "whether_traced", "hand_over")}

; --- the last arguments have names; they must be those of the parameters in order
by_name:
  {load("named", "i64")}
  {load("in_order")}
  {field("names.count", "i64", "%names", At.SIZE)}
  %count.all = add i64 %count, %names.count
  {require("icmp eq i64 %count.all, %named", "hand_over")}
  %names.items = getelementptr i8, ptr %names, i64 {At.OWN_ITEMS}
  %in_order.items = getelementptr i8, ptr %in_order, i64 {At.OWN_ITEMS}
  {each("w", "%names.count", "whether_traced")}
  {item("name", "ptr", "%names.items", "%w")}
  %w.place = add i64 %count, %w
  {item("name.wanted", "ptr", "%in_order.items", "%w.place")}
  {branch("icmp eq ptr %name, %name.wanted", "w.step", "hand_over")}

whether_traced:
  {field("traces", "i64", "%active", At.SIZE)}
  {require("icmp ne i64 %traces, 0", "captured")}
  {load("thread")}
  {load("new_integer")}
  {load("is_key")}
  {load("drop")}
  %thread_number = call i64 %thread()
  %key = call ptr %new_integer(i64 %thread_number)
  {require("icmp ne ptr %key, null", "no_key")}
  %here = call i32 %is_key(ptr %active, ptr %key)
  call void %drop(ptr %key)
  {branch("icmp eq i32 %here, 0", "captured", "hand_over")}
no_key:
  ret ptr null
captured:
  {load("watches")}
  {require("icmp ne ptr %watches, null", "begin")}
  %unchanged = call i1 @unchanged(ptr %c)
  br i1 %unchanged, label %begin, label %hand_over
begin:
  {load("result")}
  store ptr null, ptr %root
  %outputs = getelementptr i64, ptr %c, i64 {len(WORDS)}
  %starts = load <{OUTPUTS} x i64>, ptr %outputs, align 8
  store <{OUTPUTS} x i64> %starts, ptr %places, align 8
  %is_made = call i1 @make(ptr %c, ptr %result, ptr %places, ptr %root)
  br i1 %is_made, label %bring, label %failed

; --- from here to `fetch` no code of Python's runs
bring:
  {load("first_argument")}
  {each("b", "%arguments", "compute")}
  %b.part = getelementptr {_PART}, ptr %first_argument, i64 %b
  {branch("icmp ult i64 %b, %parameters", "argument", "leaves")}
leaves:
  br label %part
argument:
  {item("b.passed", "ptr", "%args", "%b")}
  br label %part
part:
  %b.object = phi ptr [ null, %leaves ], [ %b.passed, %argument ]
  %b.fits = call i1 @bring_in(ptr %c, ptr %b.part, ptr %b.object)
  br i1 %b.fits, label %b.step, label %misfit
compute:
  {load("run")}
  {load("memory")}
  {load("truths")}
  {load("tables")}
  %fault = call i32 %run(ptr %memory, ptr %truths, ptr %tables, ptr %places)
  {require("icmp eq i32 %fault, 0", fault)}
{count}  %fetched = call i1 @fetch(ptr %c, ptr %result, ptr %root)
  br i1 %fetched, label %return, label %failed
return:
  %whole = load ptr, ptr %root
  ret ptr %whole

; --- where there is no result
failed:
  call void @drop_root(ptr %c, ptr %root)
  ret ptr null
{turn}misfit:
  call void @drop_root(ptr %c, ptr %root)
  br label %hand_over
hand_over:
{reset}  {load("call")}
  {load("fallback")}
  %answer = call ptr %call(ptr %fallback, ptr %args, i64 %count, ptr %names)
  ret ptr %answer
}}
"""


#: The code of all builtins.
ASSEMBLY: Final = f"""\
; Copy a number; false if it is neither a float nor an int that fits one.
define internal i1 @bring_number(ptr %c, ptr %object, ptr %place) #0 {{
entry:
  {load("float_type")}
  {load("scalar_type")}
  {load("integer_type")}
  {field("type", "ptr", "%object", At.TYPE)}
  {branch("icmp eq ptr %type, %float_type", "take_float", "no_float")}
take_float:
  {field("number", "double", "%object", At.NUMBER)}
  store double %number, ptr %place
  ret i1 true
no_float:
  {branch("icmp eq ptr %type, %scalar_type", "take_float", "no_scalar")}
no_scalar:
  {require("icmp eq ptr %type, %integer_type", "other")}
  {load("as_number")}
  %converted = call double %as_number(ptr %object)
  store double %converted, ptr %place
  {require("fcmp oeq double %converted, -1.0", "done")}
  {load("error")}
  %occurred = call ptr %error()
  {require("icmp ne ptr %occurred, null", "done")}
  {load("clear_error")}
  call void %clear_error()
  br label %other
done:
  ret i1 true
other:
  ret i1 false
}}

; Where the items of a list or tuple are.
define internal ptr @items_of(ptr %object, i64 %is_tuple) #0 {{
entry:
  {field("list_items", "ptr", "%object", At.ITEMS)}
  %own_items = getelementptr i8, ptr %object, i64 {At.OWN_ITEMS}
  %tuple = icmp ne i64 %is_tuple, 0
  %items = select i1 %tuple, ptr %own_items, ptr %list_items
  ret ptr %items
}}

; Copy an argument into the kernel's memory; false if it is not what its part says.
define internal i1 @bring_in(ptr %c, ptr %part, ptr %object) #0 {{
entry:
  %position = alloca i64
  %key.slot = alloca ptr
  %value.slot = alloca ptr
  {_part("kind", "size", "place", "detail")}
  switch i64 %kind, label %number [ i64 {ARRAY}, label %array  i64 {NUMBERS}, label %container
                                    i64 {ITEMS}, label %container  i64 {OBJECT}, label %object_is
                                    i64 {LEAVES}, label %leaves  i64 {MAPPING}, label %mapping ]
taken:
  ret i1 true
other:
  ret i1 false

number:
  %number_fits = call i1 @bring_number(ptr %c, ptr %object, ptr %place)
  ret i1 %number_fits

mapping:
  {load("dict_type")}
  {load("text_type")}
  {load("next_item")}
  {load("is_equal", name="are_equal_keys")}
  {field("mapping.type", "ptr", "%object", At.TYPE)}
  {require("icmp eq ptr %mapping.type, %dict_type", "other")}
  {field("used", "i64", "%object", At.SIZE)}
  {field("keys", "ptr", "%part", _LENGTHS)}
  %keys.items = getelementptr i8, ptr %keys, i64 {At.OWN_ITEMS}
  store i64 0, ptr %position
  {require("icmp eq i64 %used, %size", "other")}
  {each("p", "%size", "taken")}
  %pair = call i32 %next_item(ptr %object, ptr %position, ptr %key.slot, ptr %value.slot)
  {require("icmp ne i32 %pair, 0", "other")}
  %key = load ptr, ptr %key.slot
  {item("key.wanted", "ptr", "%keys.items", "%p")}
  {branch("icmp eq ptr %key, %key.wanted", "value_of", "another_key")}
another_key:
  {field("key.type", "ptr", "%key", At.TYPE)}
  {require("icmp eq ptr %key.type, %text_type", "other")}
  %key.answer = call i32 %are_equal_keys(ptr %key, ptr %key.wanted, i32 2)
  {branch("icmp eq i32 %key.answer, 1", "value_of", "other")}
value_of:
  %value = load ptr, ptr %value.slot
  %p.part = getelementptr {_PART}, ptr %place, i64 %p
  %value.fits = call i1 @bring_in(ptr %c, ptr %p.part, ptr %value)
  br i1 %value.fits, label %p.step, label %other

object_is:
  {branch("icmp eq ptr %object, %place", "taken", "another")}
another:
  {field("another.type", "ptr", "%object", At.TYPE)}
  {field("constant.type", "ptr", "%place", At.TYPE)}
  {require("icmp eq ptr %another.type, %constant.type", "other")}
  switch i64 %detail, label %other [ i64 1, label %bits  i64 2, label %equal ]
bits:
  {field("another.bits", "i64", "%object", At.NUMBER)}
  {field("constant.bits", "i64", "%place", At.NUMBER)}
  %same_bits = icmp eq i64 %another.bits, %constant.bits
  ret i1 %same_bits
equal:
  {load("is_equal")}
  %answer = call i32 %is_equal(ptr %object, ptr %place, i32 2)
  %are_equal = icmp eq i32 %answer, 1
  ret i1 %are_equal

array:
  {load("array_type")}
  {load("float64")}
  {field("class", "ptr", "%object", At.TYPE)}
  {require("icmp eq ptr %class, %array_type", "other")}
  {field("dtype", "ptr", "%object", At.DTYPE)}
  {field("flags", "i32", "%object", At.FLAGS)}
  {field("dimensions", "i32", "%object", At.DIMENSIONS)}
  {field("lengths", "ptr", "%object", At.LENGTHS)}
  {field("source", "ptr", "%object", At.DATA)}
  %laid = and i32 %flags, {CONTIGUOUS_ALIGNED}
  %dimensions.wanted = trunc i64 %detail to i32
  {require("icmp eq ptr %dtype, %float64", "other")}
  {require(f"icmp eq i32 %laid, {CONTIGUOUS_ALIGNED}", "other")}
  {require("icmp eq i32 %dimensions, %dimensions.wanted", "other")}
  %lengths.wanted = getelementptr i8, ptr %part, i64 {_LENGTHS}
  {each("d", "%detail", "copy")}
  {item("length.is", "i64", "%lengths", "%d")}
  {item("length.wanted", "i64", "%lengths.wanted", "%d")}
  {branch("icmp eq i64 %length.is, %length.wanted", "d.step", "other")}
copy:
  {branch("icmp uge i64 %size, 8", "vectors", "scalars")}
vectors:
  %last = sub i64 %size, 8
  br label %vector
vector:
  %v = phi i64 [ 0, %vectors ], [ %v.next, %vector ]
  %v.over = icmp ugt i64 %v, %last
  %v.here = select i1 %v.over, i64 %last, i64 %v
  %v.source = getelementptr double, ptr %source, i64 %v.here
  %v.target = getelementptr double, ptr %place, i64 %v.here
  %v.numbers = load <8 x double>, ptr %v.source, align 8
  store <8 x double> %v.numbers, ptr %v.target, align 8
  %v.next = add i64 %v, 8
  {branch("icmp ult i64 %v.next, %size", "vector", "taken")}
scalars:
  {each("s", "%size", "taken")}
  {item("s.number", "double", "%source", "%s")}
  %s.target = getelementptr double, ptr %place, i64 %s
  store double %s.number, ptr %s.target
  br label %s.step

container:
  {load("list_type")}
  {load("tuple_type")}
  {load("float_type")}
  {field("sequence", "ptr", "%object", At.TYPE)}
  %wants_tuple = icmp ne i64 %detail, 0
  %wanted_type = select i1 %wants_tuple, ptr %tuple_type, ptr %list_type
  {require("icmp eq ptr %sequence, %wanted_type", "other")}
  {field("count", "i64", "%object", At.SIZE)}
  %items = call ptr @items_of(ptr %object, i64 %detail)
  %are_items = icmp eq i64 %kind, {ITEMS}
  {require("icmp eq i64 %count, %size", "other")}
  {each("i", "%size", "taken")}
  {item("item", "ptr", "%items", "%i")}
  br i1 %are_items, label %nested, label %plain
plain:
  %item.target = getelementptr double, ptr %place, i64 %i
  {field("item.type", "ptr", "%item", At.TYPE)}
  {branch("icmp eq ptr %item.type, %float_type", "plain_float", "plain_number")}
plain_float:
  {field("item.number", "double", "%item", At.NUMBER)}
  store double %item.number, ptr %item.target
  br label %i.step
plain_number:
  %item.fits = call i1 @bring_number(ptr %c, ptr %item, ptr %item.target)
  br i1 %item.fits, label %i.step, label %other
nested:
  %nested.part = getelementptr {_PART}, ptr %place, i64 %i
  %nested.fits = call i1 @bring_in(ptr %c, ptr %nested.part, ptr %item)
  br i1 %nested.fits, label %i.step, label %other

leaves:
  {load("data", "i64")}
  {load("float_type", name="leaf_type")}
  {field("all_leaves", "ptr", "%part", _LENGTHS)}
  %leaf_items = getelementptr i8, ptr %all_leaves, i64 {At.OWN_ITEMS}
  {each("n", "%size", "taken")}
  {item("leaf", "ptr", "%leaf_items", "%n")}
  %leaf.data.at = getelementptr i8, ptr %leaf, i64 %data
  %leaf.data = load ptr, ptr %leaf.data.at
  {require("icmp ne ptr %leaf.data, null", "other")}
  {field("leaf.type", "ptr", "%leaf.data", At.TYPE)}
  {require("icmp eq ptr %leaf.type, %leaf_type", "other")}
  {field("leaf.number", "double", "%leaf.data", At.NUMBER)}
  %leaf.target = getelementptr double, ptr %place, i64 %n
  store double %leaf.number, ptr %leaf.target
  br label %n.step
}}

{watch_code.ASSEMBLY}
; Make a result without its numbers, and put it into a slot; false with an exception set, if there is no memory.
define internal i1 @make(ptr %c, ptr %part, ptr %places, ptr %slot) #0 {{
entry:
  %value.slot = alloca ptr
  {_part("kind", "size", "place", "detail")}
  switch i64 %kind, label %later [ i64 {ARRAY}, label %array  i64 {NUMBERS}, label %container
                                   i64 {ITEMS}, label %container  i64 {OBJECT}, label %object
                                   i64 {MAPPING}, label %mapping ]
later:
  ret i1 true
failed:
  ret i1 false

object:
  {load("take", name="take_object")}
  call void %take_object(ptr %place)
  store ptr %place, ptr %slot
  ret i1 true

mapping:
  {load("new_dict")}
  {load("set_item")}
  {load("none")}
  {field("keys", "ptr", "%part", _LENGTHS)}
  %keys.items = getelementptr i8, ptr %keys, i64 {At.OWN_ITEMS}
  %dict = call ptr %new_dict()
  store ptr %dict, ptr %slot
  {require("icmp ne ptr %dict, null", "failed")}
  {each("p", "%size", "later")}
  %p.part = getelementptr {_PART}, ptr %place, i64 %p
  store ptr null, ptr %value.slot
  %value.is_made = call i1 @make(ptr %c, ptr %p.part, ptr %places, ptr %value.slot)
  br i1 %value.is_made, label %set_pair, label %no_value
set_pair:  ; a number gets its place in the order of the keys now, and comes later
  %value = load ptr, ptr %value.slot
  %value.there = icmp ne ptr %value, null
  %value.now = select i1 %value.there, ptr %value, ptr %none
  {item("key", "ptr", "%keys.items", "%p")}
  %status = call i32 %set_item(ptr %dict, ptr %key, ptr %value.now)
  call void @drop_root(ptr %c, ptr %value.slot)
  {branch("icmp eq i32 %status, 0", "p.step", "failed")}
no_value:
  call void @drop_root(ptr %c, ptr %value.slot)
  br label %failed

array:
  {load("take")}
  {load("new_array")}
  {load("array_type")}
  {load("float64")}
  %dimensions = trunc i64 %detail to i32
  %lengths = getelementptr i8, ptr %part, i64 {_LENGTHS}
  call void %take(ptr %float64)
  %new = call ptr %new_array(ptr %array_type, ptr %float64, i32 %dimensions, ptr %lengths, ptr null, ptr null, i32 0,
                             ptr null)
  store ptr %new, ptr %slot
  {require("icmp ne ptr %new, null", "failed")}
  {field("output", "i64", "%part", _OUTPUT)}
  {require("icmp sge i64 %output, 0", "later")}
  {field("data", "ptr", "%new", At.DATA)}
  %output.place = getelementptr ptr, ptr %places, i64 %output
  store ptr %data, ptr %output.place
  ret i1 true

container:
  {load("new_list")}
  {load("new_tuple")}
  %wants_tuple = icmp ne i64 %detail, 0
  %maker = select i1 %wants_tuple, ptr %new_tuple, ptr %new_list
  %sequence = call ptr %maker(i64 %size)
  store ptr %sequence, ptr %slot
  {require("icmp ne ptr %sequence, null", "failed")}
  {require(f"icmp eq i64 %kind, {ITEMS}", "later")}
  %slots = call ptr @items_of(ptr %sequence, i64 %detail)
  {each("k", "%size", "later")}
  %item.part = getelementptr {_PART}, ptr %place, i64 %k
  %item.slot = getelementptr ptr, ptr %slots, i64 %k
  %item.is_made = call i1 @make(ptr %c, ptr %item.part, ptr %places, ptr %item.slot)
  br i1 %item.is_made, label %k.step, label %failed
}}

; Put the numbers into a result; false with an exception set, if there is no memory.
define internal i1 @fetch(ptr %c, ptr %part, ptr %slot) #0 {{
entry:
  %value.slot = alloca ptr
  {load("new_float")}
  {_part("kind", "size", "place", "detail")}
  switch i64 %kind, label %done [ i64 {NUMBER}, label %number  i64 {ARRAY}, label %array
                                  i64 {NUMBERS}, label %container  i64 {ITEMS}, label %container
                                  i64 {MAPPING}, label %mapping ]
done:
  ret i1 true
failed:
  ret i1 false

number:
  %number.is = load double, ptr %place
  %float = call ptr %new_float(double %number.is)
  store ptr %float, ptr %slot
  %is_float = icmp ne ptr %float, null
  ret i1 %is_float

mapping:
  {load("set_item")}
  {load("get_item")}
  {field("keys", "ptr", "%part", _LENGTHS)}
  %keys.items = getelementptr i8, ptr %keys, i64 {At.OWN_ITEMS}
  %dict = load ptr, ptr %slot
  {each("p", "%size", "done")}
  %p.part = getelementptr {_PART}, ptr %place, i64 %p
  %p.kind = load i64, ptr %p.part
  {item("key", "ptr", "%keys.items", "%p")}
  {branch(f"icmp eq i64 %p.kind, {NUMBER}", "number_in", "filled_in")}
number_in:
  store ptr null, ptr %value.slot
  %number.fetched = call i1 @fetch(ptr %c, ptr %p.part, ptr %value.slot)
  br i1 %number.fetched, label %set_number, label %failed
set_number:
  %value = load ptr, ptr %value.slot
  %status = call i32 %set_item(ptr %dict, ptr %key, ptr %value)
  call void @drop_root(ptr %c, ptr %value.slot)
  {branch("icmp eq i32 %status, 0", "p.step", "failed")}
filled_in:
  %inside = call ptr %get_item(ptr %dict, ptr %key)
  store ptr %inside, ptr %value.slot
  %inside.fetched = call i1 @fetch(ptr %c, ptr %p.part, ptr %value.slot)
  br i1 %inside.fetched, label %p.step, label %failed

array:
  {field("output", "i64", "%part", _OUTPUT)}
  {require("icmp slt i64 %output, 0", "done")}
  %array.is = load ptr, ptr %slot
  {field("data", "ptr", "%array.is", At.DATA)}
  %bytes = mul i64 %size, 8
  call void @llvm.memcpy.p0.p0.i64(ptr %data, ptr %place, i64 %bytes, i1 false)
  ret i1 true

container:
  %sequence = load ptr, ptr %slot
  %slots = call ptr @items_of(ptr %sequence, i64 %detail)
  %are_items = icmp eq i64 %kind, {ITEMS}
  {each("k", "%size", "done")}
  %item.slot = getelementptr ptr, ptr %slots, i64 %k
  br i1 %are_items, label %nested, label %plain
plain:
  {item("item.number", "double", "%place", "%k")}
  %item.float = call ptr %new_float(double %item.number)
  store ptr %item.float, ptr %item.slot
  {branch("icmp ne ptr %item.float, null", "k.step", "failed")}
nested:
  %item.part = getelementptr {_PART}, ptr %place, i64 %k
  %item.fetched = call i1 @fetch(ptr %c, ptr %item.part, ptr %item.slot)
  br i1 %item.fetched, label %k.step, label %failed
}}

declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

{_function("builtin", "misfit", "", "")}
{_function("builtin_of_way", "turned", _COUNT, _TURN)}
; Let go of a result, or of a part of it, with all that is in it.
define internal void @drop_root(ptr %c, ptr %root) #0 {{
entry:
  {load("drop")}
  %object = load ptr, ptr %root
  {require("icmp ne ptr %object, null", "done")}
  call void %drop(ptr %object)
  br label %done
done:
  ret void
}}

; The number of the guard that has failed on the way to another builtin; else 0.
@turned = internal global i64 0

attributes #0 = {{ nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" }}
"""
