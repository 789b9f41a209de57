"""What machine code compares before each call, so that it notices when something has changed that a function captured.

The first word is the number of rows. Each row has six words:

=============  ======================================================================================================
`CELL`         a variable of an enclosing function: the cell, 0, the object
`ITEM`         an item of a dictionary: the dictionary, the key, the object
`ATTRIBUTE`    an attribute: its owner, its name, the object
`CLASS`        what a class or its bases define: the class, the name, the object
`WORD`         a word of memory: its address, 0, what must be there
`LIST`         the items of a list: the list, how many, the address of theirs
`MAPPING`      the order of a dictionary: the dictionary, what `mapping_order` says, how many items there are
`ARRAY`        an array: the array, the address of words: where its numbers are, how many bytes they take, a copy of
               them, the number of dimensions, the shape
`VERSION`      the version of a dictionary: the dictionary, how many of the rows that follow compare what is in it, its
               version when they last held, 0, 0. While it is the same, they are passed over
`RENEW`        behind those rows: 0, how many rows the row with the version is before this one
=============  ======================================================================================================

Behind an object stand two words: whether it is a float, in which case another float will do, and its bits. In place of
an object stands 0 where nothing must be in a cell, a dictionary or a class.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from .builtin import load
from .macros import branch, field, require
from .objects import At


class Watch(IntEnum):
    """The first word of a row."""

    CELL, ITEM, ATTRIBUTE, WORD, LIST, ARRAY, MAPPING, CLASS, VERSION, RENEW = range(10)


#: How many words a row has.
ROW: Final = 6

ASSEMBLY: Final = f"""\
; Whether what the function captured is what it was; there is at least one row.
define internal i1 @unchanged(ptr %c) #0 {{
entry:
  {load("watches")}
  {load("get_item")}
  {load("get_attribute")}
  {load("in_class")}
  {load("drop")}
  {load("compare")}
  {load("float_type")}
  %count = load i64, ptr %watches
  %rows = getelementptr i64, ptr %watches, i64 1
  br label %row
row:
  %k = phi i64 [ 0, %entry ], [ %k.next, %next ]
  %at = getelementptr [{ROW} x i64], ptr %rows, i64 %k
  %kind = load i64, ptr %at
  {field("owner", "ptr", "%at", 8)}
  {field("key", "ptr", "%at", 16)}
  {field("noted", "ptr", "%at", 24)}
  {field("is_float", "i64", "%at", 32)}
  {field("bits", "i64", "%at", 40)}
  %key.number = ptrtoint ptr %key to i64
  switch i64 %kind, label %cell [ {"  ".join(f"i64 {each.value}, label %{each.name.lower()}" for each in Watch)} ]
version:
  {field("tag", "i64", "%owner", At.VERSION)}
  %tag.was = ptrtoint ptr %noted to i64
  {branch("icmp eq i64 %tag, %tag.was", "pass_over", "rows_of")}
pass_over:
  %k.behind = add i64 %k, %key.number
  br label %next
rows_of:
  %pending = getelementptr i8, ptr %at, i64 32
  store i64 %tag, ptr %pending
  br label %holds
renew:
  %before = sub i64 0, %key.number
  %head = getelementptr [{ROW} x i64], ptr %at, i64 %before
  {field("checked", "i64", "%head", 32)}
  %noted.place = getelementptr i8, ptr %head, i64 24
  store i64 %checked, ptr %noted.place
  br label %holds
cell:
  {field("content", "ptr", "%owner", At.CONTENT)}
  br label %object
item:
  %entry.is = call ptr %get_item(ptr %owner, ptr %key)
  br label %object
class:
  %definition = call ptr %in_class(ptr %owner, ptr %key)
  br label %object
attribute:
  %got = call ptr %get_attribute(ptr %owner, ptr %key)
  {require("icmp ne ptr %got, null", "no")}
  call void %drop(ptr %got)  ; from here on it is only compared
  {branch("icmp eq ptr %got, %noted", "holds", "no")}
object:
  %is = phi ptr [ %content, %cell ], [ %entry.is, %item ], [ %definition, %class ]
  {branch("icmp eq ptr %is, %noted", "holds", "another")}
another:
  {require("icmp ne ptr %is, null", "no")}
  {require("icmp ne i64 %is_float, 0", "no")}
  {field("type", "ptr", "%is", At.TYPE)}
  {require("icmp eq ptr %type, %float_type", "no")}
  {field("is.bits", "i64", "%is", At.NUMBER)}
  {branch("icmp eq i64 %is.bits, %bits", "holds", "no")}
word:
  %word.is = load ptr, ptr %owner
  {branch("icmp eq ptr %word.is, %noted", "holds", "no")}
list:
  {field("size", "i64", "%owner", At.SIZE)}
  {field("items", "ptr", "%owner", At.ITEMS)}
  {require("icmp eq i64 %size, %key.number", "no")}
  %bytes = mul i64 %size, 8
  %items.differ = call i32 %compare(ptr %items, ptr %noted, i64 %bytes)
  {branch("icmp eq i32 %items.differ, 0", "holds", "no")}
mapping:
  {field("mapping.size", "i64", "%owner", At.SIZE)}
  {field("mapping.keys", "ptr", "%owner", At.KEYS)}
  {require("icmp eq i64 %mapping.size, %is_float", "no")}
  {require("icmp eq ptr %mapping.keys, %key", "no")}
  {field("entries", "ptr", "%mapping.keys", At.ENTRIES)}
  {branch("icmp eq ptr %entries, %noted", "holds", "no")}
array:
  {field("data", "ptr", "%owner", At.DATA)}
  {field("dimensions", "i32", "%owner", At.DIMENSIONS)}
  {field("lengths", "ptr", "%owner", At.LENGTHS)}
  %data.was = load ptr, ptr %key
  {field("data.bytes", "i64", "%key", 8)}
  {field("data.copy", "ptr", "%key", 16)}
  {field("dimensions.were", "i32", "%key", 24)}
  %lengths.were = getelementptr i8, ptr %key, i64 32
  {require("icmp eq ptr %data, %data.was", "no")}
  {require("icmp eq i32 %dimensions, %dimensions.were", "no")}
  %lengths.count = zext i32 %dimensions to i64
  %lengths.bytes = mul i64 %lengths.count, 8
  %lengths.differ = call i32 %compare(ptr %lengths, ptr %lengths.were, i64 %lengths.bytes)
  {require("icmp eq i32 %lengths.differ, 0", "no")}
  %numbers.differ = call i32 %compare(ptr %data, ptr %data.copy, i64 %data.bytes)
  {branch("icmp eq i32 %numbers.differ, 0", "holds", "no")}
holds:
  br label %next
next:
  %k.last = phi i64 [ %k, %holds ], [ %k.behind, %pass_over ]
  %k.next = add i64 %k.last, 1
  {branch("icmp ult i64 %k.next, %count", "row", "yes")}
yes:
  ret i1 true
no:
  {load("clear_error")}
  call void %clear_error()
  ret i1 false
}}
"""
