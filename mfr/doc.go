// Package mfr is the query language of query.read, backlinks.read, links2.read and private.read: map-filter-reduce, as npm
// map-filter-reduce 3.2.2 has it. It knows no messages and does no I/O: JSON values in, JSON values out.
//
//	query text -> Parse -> Query;  values -> Query.Run -> values;  Query.Constraints -> the choice of an index
//
// A query is an array of stages, each an object of one key:
//
//	{"$filter": F}  lets through what F matches. F is a string, number, boolean or null, which is compared with ===; an object or
//	                array of Fs, one for each member; or operators, which must all hold: $eq $ne $gt $gte $lt $lte $prefix $in
//	                $is $not $truthy $int.
//	{"$map": M}     makes another value. M is the name of a member, an index (below 0: from the end), a path, which is an array
//	                of Ms that are followed one after the other, true for the value itself, an object of Ms, in which true
//	                stands for the member of the same name, or an operator: those above, $type, $mod, $get. What comes out
//	                false, 0, "" or null is dropped.
//	{"$reduce": R}  makes one value of all: $count $sum $product $min $max or $collect, each with an M that says of what; or an
//	                object of Rs. An M as a member of that object groups: there is one object for each combination of those, in
//	                the order of null, booleans, numbers, strings, arrays, undefined. What comes out is taken apart: the
//	                elements of an array, the values of an object.
//	{"$sort": [P]}  sorts in that order by paths, or {"$reverse": P}, which turns the paths behind it around, too.
//
// # What holds
//
// The answers are those of the npm package, also where that is odd: "5" is greater than 4, [4] is equal to nothing, an object
// is "[object Object]" to $gt. testdata/answers.json holds some 400 queries over 70 sorts of values with its answers. On purpose
// it is otherwise here:
//
//  1. What throws in JS when it meets a value, and ends the server, is undefined: an index of null, a member of null under $get.
//     Objects that are to be ordered or grouped by end the query with ErrOrder.
//  2. What gives nonsense in JS is refused by Parse: reduce functions outside of $reduce, $reduce of a bare path, $sort of
//     anything but an array, $in and $prefix with arguments that throw.
//  3. What all JS objects inherit ("constructor") is undefined.
//  4. Values are values: one that has a member "sync" is not let through everything. Who streams tells of the end of the old
//     messages beside the stream.
//
// Values are not decoded. A filter skips through the text and looks at the members that it asks for, and what passes all
// stages unchanged comes out byte for byte, with the order of its keys. That is seven to ten times as quick as decoding, and
// it is how a message keeps the form that its hash was made of.
//
// $filter and $map hold nothing; $reduce and $sort hold no more than Run is told, and no stage makes more than 8 MiB of one
// value. A query has at most 64 stages, 256 KiB and 128 levels. The time for a value is bounded by its length times that
// of the query.
package mfr
