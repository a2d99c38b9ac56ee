// (v - low) / (high - low), clamped, if asked for, to [0, 1].
#pragma once

#include "../program.h"

AUG_BEGIN
namespace steps {

struct window : Pointwise {
    AUG_VALUES(low, inverse_width, clamp)   // inverse_width: 1 / (high - low)

    template <class L>
    static AUG_HOSTDEV typename L::Float apply(const float* v, int, typename L::Float value, const Here<L>&) {
        using Float = typename L::Float;
        const Float place = (value - v[low]) * v[inverse_width];
        if (v[clamp] == 0.0f) return place;
        const Float above = L::select(place > 0.0f, place, Float{});
        return L::select(above < 1.0f, above, Float{} + 1.0f);
    }
};

}  // namespace steps
AUG_END
