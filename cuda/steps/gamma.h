// The curve ((v - low) / range)^exponent on the patch's own range, on the value or on its negative; mean and deviation restored if asked for.
#pragma once

#include "../elementary.h"
#include "../program.h"

AUG_BEGIN
namespace steps {

struct gamma : Pointwise {
    AUG_VALUES(exponent, invert, keep_statistics)
    static AUG_HOSTDEV int phases(const float* v) { return v[keep_statistics] != 0.0f ? 2 : 1; }
    static AUG_HOSTDEV bool statistics(const float*, int) { return true; }

    template <class L>
    static AUG_HOSTDEV typename L::Float apply(const float* v, int phase, typename L::Float value, const Here<L>& here) {
        using Float = typename L::Float;
        const PatchStatistics& before = here.statistics[0];
        if (phase == 1) {   // the result of phase 0 keeps its sign
            const PatchStatistics& after = here.statistics[1];
            const float spread = sample_deviation(after);
            const float scale = sample_deviation(before) / (spread > 1e-7f ? spread : 1e-7f);
            return (value - static_cast<float>(after.mean)) * scale + static_cast<float>(before.mean);
        }
        const bool inverted = v[invert] != 0.0f;
        const float sign = inverted ? -1.0f : 1.0f, low = inverted ? -before.high : before.low;
        const float width = before.high - before.low, range = width > 1e-7f ? width : 1e-7f;
        const Float place = (value * sign - low) / range;
        const Float least = Float{} + 0x1p-126f, deepest = Float{} - 126.0f;
        const Float safe = L::select(place > least, L::select(place < 1.0f, place, Float{} + 1.0f), least);
        Float power = ln<L>(safe) * (v[exponent] * 1.44269504f);
        power = L::select(power > deepest, power, deepest);
        power = L::select(power < 0.0f, power, Float{});
        const Float curved = L::select(place > 0.0f, exp2<L>(power), Float{});
        return (curved * width + low) * sign;
    }
};

}  // namespace steps
AUG_END
