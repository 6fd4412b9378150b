"""Messages in a model's chat template: the requests and the command line."""

from __future__ import annotations

import pytest

from glassformer.cli import main
from glassformer.visualization.server import ModelSession
from glassformer.visualization.server.schema import PredictionRequest


def prompt_of(model, message):
    messages = [{"role": "user", "content": message}]
    return model.tokenizer.apply_chat_template(messages, add_generation_prompt=True)


def test_a_message_is_continued_with_an_answer_until_a_stop_token(chat_model):
    prompt = prompt_of(chat_model, "the cat")
    answer = chat_model.generate(prompt, 4, temperature=0)[len(prompt) :]
    chat_model.token_ids = {"eos_token_id": [1, answer[2]]}
    session, generated = ModelSession(chat_model, name="chat"), ()
    assert session.describe()["has_chat_template"]
    for token in answer[:3]:
        request = PredictionRequest("the cat", chat=True, generated=generated, temperature=0)
        response = session.step(request)
        assert response["token"] == token
        assert response["ended"] == (token in chat_model.stop_tokens)
        generated += (token,)
    assert response["tokens"] == [chat_model.tokenizer.label(token) for token in prompt]
    plain = session.predict(PredictionRequest("the cat"))
    assert len(plain["tokens"]) < len(response["tokens"])
    chat_model.token_ids = {}


@pytest.mark.parametrize(
    ("text", "message"),
    [("no", "not this"), ("a" * 40, r"with the chat template, the message has 4\d tokens, but the model")],
)
def test_a_message_that_is_refused_or_too_long_is_an_error(chat_model, text, message):
    with pytest.raises(ValueError, match=message):
        ModelSession(chat_model, name="chat").predict(PredictionRequest(text, chat=True))


def test_a_model_without_a_template_refuses_messages(gpt, bert, t5):
    for model in (gpt(), bert(head="masked_lm"), t5()):
        session = ModelSession(model, name="small")
        assert not session.describe()["has_chat_template"]
        with pytest.raises(ValueError, match="this model has no chat template"):
            session.predict(PredictionRequest("the cat", chat=True))


def test_generate_prints_the_answer_to_a_message(chat_model, tmp_path, capsys):
    chat_model.save_pretrained(tmp_path)
    prompt = prompt_of(chat_model, "the cat")
    answer = chat_model.generate(prompt, 5, temperature=0)
    whole, start = (chat_model.tokenizer.decode(ids) for ids in (answer, prompt))
    options = ["generate", str(tmp_path), "--chat", "--temperature", "0", "--max-new-tokens", "5"]
    assert main([*options, "--prompt", "the cat"]) == 0
    assert capsys.readouterr().out == whole[len(start) :] + "\n"
    template = chat_model.tokenizer.settings.pop("chat_template")
    chat_model.save_pretrained(tmp_path / "plain")
    for folder, extra, message in (
        (tmp_path, [], "--chat needs a message"),
        (tmp_path, ["--prompt", "no"], "not this"),
        (tmp_path / "plain", ["--prompt", "a"], "no chat template: leave --chat out"),
    ):
        assert main([options[0], str(folder), *options[2:], *extra]) == 2
        assert message in capsys.readouterr().err
    chat_model.tokenizer.settings["chat_template"] = template
