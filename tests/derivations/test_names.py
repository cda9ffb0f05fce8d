"""What the names in people's derivations are taken for."""

import pytest

from backhand.derivations.names import gradient, meaning


@pytest.mark.parametrize(
    ("names", "kind", "layer"),
    [
        (
            "W1 w1 W_I w_ih w_i_h weights1 theta1 Theta1 syn0 W0 Wh w_hidden hidden_weights weights_input_hidden W_xh",
            "W",
            1,
        ),
        ("W2 w_ho W_O w_h_o weights2 theta2 syn1_of_0 Wo w_output output_weights Wy W_hy", "W", 2),
        ("b1 b_I bh b_h bias1 b_hidden hidden_bias", "b", 1),
        ("b2 b_O bo b_o bias2 b_output output_bias by", "b", 2),
        ("x X inputs input_data images X_train a0 A0", "x", None),
        ("y Y t target targets labels y_true Y_train", "y", None),
        ("yhat y_hat A2 a2 probs y_pred predictions AL", "yhat", None),
        ("Z1 z1 hpreact h_tilde", "z", 1),
        ("Z2 z2 logits scores", "z", 2),
        ("A1 a1 h hidden out_h h1", "a", 1),
        ("m n N batch_size num_examples", "samples", None),
        ("lr learning_rate eta", "rate", None),
        ("reg lambd lambda_ weight_decay", "penalty", None),
        ("epochs num_iterations n_iter", "epochs", None),
        ("parameters params", "parameters", None),
        ("cache caches memory", "cache", None),
        ("weights", "weights", None),
        ("biases", "biases", None),
        ("nn_params theta_flat", "unrolled", None),
    ],
)
def test_an_argument_is_known_by_its_name(names, kind, layer):
    for name in names.split():
        among = ["syn0", "syn1"] if name == "syn1_of_0" else []
        found = meaning("syn1" if among else name, 2, among)
        assert found is not None, name
        assert (found.kind, found.layer) == (kind, layer), name


@pytest.mark.parametrize("name", ["q", "foo", "verbose", "W3", "rng", "self", "print_cost"])
def test_a_name_that_means_nothing_is_not_guessed(name):
    assert meaning(name, 2) is None


@pytest.mark.parametrize(
    ("label", "kind", "layer", "marked"),
    [
        ("dW1", "W", 1, True),
        ("grads['W1']", "W", 1, False),
        ("grad_W2", "W", 2, True),
        ("nabla_w[1]", "W", 1, True),
        ("n.layers[2].dW", "W", 2, True),
        ("w1.g", "W", 1, True),
        ("n.b1.grad", "b", 1, True),
        ("self.dW1", "W", 1, True),
        ("n[2]['bias']", "b", 2, False),
        ("n.w_hidden", "W", 1, False),
        ("Theta1_grad", "W", 1, True),
        ("dL_db2", "b", 2, True),
        ("dZ1", "z", 1, True),
        ("delta_O", "z", 2, True),
        ("delta2", "z", 2, True),
        ("dX", "x", None, True),
    ],
)
def test_a_gradient_is_known_by_the_path_to_it(label, kind, layer, marked):
    found = gradient(label, 2)
    assert found is not None
    assert (found.kind, found.layer, found.gradient) == (kind, layer, marked)


def test_numbers_from_zero_are_seen_by_the_zero_among_them():
    assert [gradient(f"dW{i}", 3, ["dW0", "dW1", "dW2"]).layer for i in range(3)] == [1, 2, 3]
    assert [gradient(f"dW{i}", 3, ["dW1", "dW2", "dW3"]).layer for i in (1, 2, 3)] == [1, 2, 3]
