// (v - mean) factor + mean about the mean of the patch, and clamped, if asked for, to the range that the patch had.
#pragma once

#include "../program.h"

AUG_BEGIN
namespace steps {

struct contrast : Pointwise {
    AUG_VALUES(factor, clamp)
    static AUG_HOSTDEV bool statistics(const float*, int) { return true; }

    template <class L>
    static AUG_HOSTDEV typename L::Float apply(const float* v, int, typename L::Float value, const Here<L>& here) {
        using Float = typename L::Float;
        const PatchStatistics& patch = here.statistics[0];
        const float mean = static_cast<float>(patch.mean);
        const Float changed = (value - mean) * v[factor] + mean;
        if (v[clamp] == 0.0f) return changed;
        const Float low = Float{} + patch.low, high = Float{} + patch.high;
        const Float above = L::select(changed > low, changed, low);
        return L::select(above < high, above, high);
    }
};

}  // namespace steps
AUG_END
