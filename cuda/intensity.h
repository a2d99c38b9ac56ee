// From a sampled value to an output value: contrast and brightness, gamma, noise, window, cast.
#pragma once

#include "elementary.h"
#include "params.h"

AUG_BEGIN

/// The intensity part of Params, by value: in the vector loops a store through uint8_t* may alias the struct it came from.
struct Tone {
    uint32_t flags;
    float gain, shift, exponent, noise_std, low, inverse, span;
    explicit AUG_HOSTDEV Tone(const Params& p)
        : flags(p.flags), gain(p.gain), shift(p.shift), exponent(p.gamma * 1.44269504f), noise_std(p.noise_std), low(p.window_low),
          inverse(p.window_inverse), span(p.window_span) {}
};

/// v -> low + span t^gamma with t the place in the window, for 0 < t < 1; other values are kept.
template <class L>
AUG_HOSTDEV typename L::Float apply_gamma(const Tone& tone, typename L::Float v) {
    using Float = typename L::Float;
    const Float t = (v - tone.low) * tone.inverse;
    const Float least = Float{} + 0x1p-126f, deepest = Float{} - 126.0f;
    const Float safe = L::select(t > least, L::select(t < 1.0f, t, Float{} + 1.0f), least);
    Float y = ln<L>(safe) * tone.exponent;
    y = L::select(y > deepest, y, deepest);
    y = L::select(y < 0.0f, y, Float{});
    const Float curved = exp2<L>(y) * tone.span + tone.low;
    return L::select(t > 0.0f, L::select(t < 1.0f, curved, v), v);
}

/// Window to [0, 1]; NaN becomes 0.
template <class L>
AUG_HOSTDEV typename L::Float apply_window(const Tone& tone, typename L::Float v) {
    using Float = typename L::Float;
    if (!(tone.flags & WINDOW)) return v;
    const Float t = (v - tone.low) * tone.inverse;
    const Float above = L::select(t > 0.0f, t, Float{});
    return L::select(above < 1.0f, above, Float{} + 1.0f);
}

/// The whole chain but the cast. `noise` is a standard normal, ignored without the NOISE flag.
template <class L>
AUG_HOSTDEV typename L::Float apply_tone(const Tone& tone, typename L::Float v, typename L::Float noise) {
    v = v * tone.gain + tone.shift;
    if (tone.flags & GAMMA) v = apply_gamma<L>(tone, v);
    if (tone.flags & NOISE) v = v + noise * tone.noise_std;
    return apply_window<L>(tone, v);
}

/// [0, 1] -> 0..255 in the low byte of each lane.
template <class L>
AUG_HOSTDEV typename L::Int byte_of(typename L::Float v) {
    return L::to_int(v * 255.0f + 0.5f);
}

/// Writes element `at` of an output array.
AUG_HOSTDEV void store_voxel(uint64_t array, OutputType type, uint64_t at, float v) {
    if (type == OutputType::FLOAT32) reinterpret_cast<float*>(array)[at] = v;
    else if (type == OutputType::FLOAT16) reinterpret_cast<uint16_t*>(array)[at] = static_cast<uint16_t>(half_bits<Scalar>(v));
    else reinterpret_cast<uint8_t*>(array)[at] = static_cast<uint8_t>(byte_of<Scalar>(v));
}

AUG_END
