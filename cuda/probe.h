// What tests measure of a build: its elementary functions, one array in and one out.
#pragma once

#include "elementary.h"
#include "isa.h"

AUG_BEGIN

/// out[i] = f(in[i]) for i < count; both hold the bits of float32, turns are uint32. W: lanes per step; count is a multiple of it.
template <class L, int W>
AUG_HOSTDEV void evaluate_with(Elementary f, const uint32_t* in, uint32_t* out, int64_t count) {
    for (int64_t i = 0; i < count; i += W) {
        typename L::UInt turn;
        typename L::Float x, result, other;
        __builtin_memcpy(&turn, in + i, sizeof turn);
        __builtin_memcpy(&x, in + i, sizeof x);
        if (f == Elementary::LN) result = ln<L>(x);
        else if (f == Elementary::EXP2) result = exp2<L>(x);
        else if (f == Elementary::SINE) sincos_turn<L>(turn, result, other);
        else if (f == Elementary::COSINE) sincos_turn<L>(turn, other, result);
        else result = L::from_bits(half_bits<L>(x));
        __builtin_memcpy(out + i, &result, sizeof result);
    }
}

AUG_END
