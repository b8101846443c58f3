// The link plugin of tm_torchrl for TMInterface 2.1: lets a program outside drive the game over TCP.
//
// Put this file into Documents/TMInterface/Plugins. The game listens at 127.0.0.1, at the port of the variable
// custom_port (8478 by default):  /configstring="set custom_port 8479"  in the start command of a second instance.
// It has the protocol of the community's Python_Link.as, so clients of either work with both; install only one of them.
//
// The game sends a number (and more), then stands still and takes requests until the number comes back. Unlike with the
// community's plugin, a client that disconnects leaves the game at its own speed instead of frozen, and a new client may
// take over while the game still waits for one that has died.
//
// It uses only those names of TMInterface that other public plugins use. It has not been run in the game yet, only in a
// small substitute for it (tests/game/angelscript).

const string HOST = "127.0.0.1";
const int DEFAULT_PORT = 8478;
const uint64 PATIENCE_MS = 2000;   // how long the game waits for a client, unless the client asks for more
const uint64 LOOK_AFTER_MS = 250;  // time of silence after which the game looks for a new client
const int TICK_MS = 10;

// Messages of the game.
const int RUN_STEP = 1;
const int CHECKPOINT = 2;
const int LAP = 3;
const int PICTURE = 4;
const int HELLO = 5;

// Requests of clients.
const int SET_SPEED = 6;
const int REWIND_TO_STATE = 7;
const int REWIND_TO_CURRENT = 8;
const int GET_STATE = 9;
const int SET_INPUTS = 10;
const int GIVE_UP = 11;
const int PREVENT_FINISH = 12;
const int GOOD_BYE = 13;
const int EXECUTE = 14;
const int SET_TIMEOUT = 15;
const int IS_FINISHED = 16;
const int REQUEST_PICTURE = 17;
const int RESET_CAMERA = 18;
const int SET_PERIOD = 19;
const int WITHDRAW_PICTURE = 20;
const int SHOW_INTERFACE = 21;
const int IS_IN_MENUS = 22;
const int GET_INPUTS = 23;

class Link
{
    private Net::Socket@ listener;
    private Net::Socket@ client;
    private uint64 patience = PATIENCE_MS;
    private int period = TICK_MS;
    private int width = 0;
    private int height = 0;
    private bool owesHello = false;

    bool get_HasClient() const property { return client !is null; }

    void Open(int port)
    {
        if (listener !is null) {
            return;
        }
        @listener = Net::Socket();
        if (listener.Listen(HOST, uint16(port))) {
            log("tm_torchrl: listening at " + HOST + ":" + port);
        } else {
            @listener = null;
            log("tm_torchrl: port " + port + " is taken; set custom_port to another one and start the game again");
        }
    }

    void Close()
    {
        Drop("the plugin is switched off");
        @listener = null;
    }

    // A client that waits for a connection replaces the present one.
    bool TakeNewClient()
    {
        if (listener is null) {
            return false;
        }
        Net::Socket@ next = listener.Accept(0);
        if (next is null) {
            return false;
        }
        if (HasClient) {
            Drop("a newer one has come");
        }
        @client = next;
        client.NoDelay = true;
        log("tm_torchrl: client " + client.RemoteIP);
        owesHello = true;
        return true;
    }

    // Outside of a race this is the only place that greets a new client.
    void Greet()
    {
        if (HasClient && owesHello && GetCurrentGameState() != TM::GameState::StartUp) {
            owesHello = false;
            client.Write(HELLO);
            Await(HELLO);
        }
    }

    void TellStep(SimulationManager@ game)
    {
        bool isDue = game.RaceTime % period == 0 || game.TickTime > game.RaceTime;
        if (HasClient && !owesHello && isDue) {
            client.Write(RUN_STEP);
            client.Write(game.RaceTime);
            Await(RUN_STEP);
        }
    }

    void TellCount(int what, int current, int total)
    {
        if (HasClient && !owesHello) {
            client.Write(what);
            client.Write(current);
            client.Write(total);
            Await(what);
        }
    }

    void TellPicture()
    {
        if (!HasClient || owesHello || height <= 0) {
            return;
        }
        const array<uint8>@ pixels = Graphics::CaptureScreenshot(vec2(width, height));
        client.Write(PICTURE);
        client.Write(pixels);
        Await(PICTURE);
        height = 0;
    }

    // The game stands still in here, until the client lets it go on, leaves, or is silent for too long.
    private void Await(int number)
    {
        uint64 heard = Time::Now;
        uint64 looked = heard;
        while (HasClient) {
            if (client.Available >= 4) {
                int asked = client.ReadInt32();
                if (asked == number) {
                    return;
                }
                Answer(asked);
                heard = Time::Now;
                looked = heard;
                continue;
            }
            uint64 now = Time::Now;
            if (now - heard > patience) {
                Drop("silent for " + patience + " ms");
            } else if (now - looked > LOOK_AFTER_MS) {
                looked = now;
                if (TakeNewClient()) {
                    return;  // the new client is greeted when the game draws next
                }
            }
        }
    }

    private void Drop(const string &in reason)
    {
        if (!HasClient) {
            return;
        }
        @client = null;
        patience = PATIENCE_MS;
        period = TICK_MS;
        height = 0;
        owesHello = false;
        GetSimulationManager().SetSpeed(1.0f);
        log("tm_torchrl: the client is dropped: " + reason);
    }

    private void Answer(int asked)
    {
        SimulationManager@ game = GetSimulationManager();
        if (asked == SET_SPEED) {
            game.SetSpeed(client.ReadFloat());
        } else if (asked == REWIND_TO_STATE) {
            int length = client.ReadInt32();
            const array<uint8>@ bytes = client.ReadBytes(length);
            if (game.InRace) {
                SimulationState state(bytes);
                game.RewindToState(state);
            }
        } else if (asked == REWIND_TO_CURRENT) {
            if (game.InRace) {
                game.RewindToState(game.SaveState());
            }
        } else if (asked == GET_STATE) {
            const array<uint8>@ bytes = game.SaveState().ToArray();
            client.Write(int(bytes.Length));
            client.Write(bytes);
        } else if (asked == SET_INPUTS) {
            Press(game);
        } else if (asked == GIVE_UP) {
            if (game.InRace) {
                game.GiveUp();
            }
        } else if (asked == PREVENT_FINISH) {
            if (game.InRace) {
                game.PreventSimulationFinish();
            }
        } else if (asked == GOOD_BYE) {
            Drop("it said good-bye");
        } else {
            AnswerRest(asked, game);
        }
    }

    private void AnswerRest(int asked, SimulationManager@ game)
    {
        if (asked == EXECUTE) {
            int length = client.ReadInt32();
            ExecuteCommand(client.ReadString(length));
        } else if (asked == SET_TIMEOUT) {
            patience = client.ReadUint32();
        } else if (asked == IS_FINISHED) {
            bool isFinished = game.PlayerInfo.RaceFinished || game.TickTime > game.RaceTime;
            client.Write(isFinished ? 1 : 0);
        } else if (asked == REQUEST_PICTURE) {
            width = client.ReadInt32();
            height = client.ReadInt32();
        } else if (asked == WITHDRAW_PICTURE) {
            height = 0;
        } else if (asked == RESET_CAMERA) {
            game.ResetCamera();
        } else if (asked == SET_PERIOD) {
            period = client.ReadInt32();
            if (period < TICK_MS) {
                period = TICK_MS;
            }
        } else if (asked == SHOW_INTERFACE) {
            ToggleRaceInterface(client.ReadInt32() > 0);
        } else if (asked == IS_IN_MENUS) {
            client.Write(GetCurrentGameState() == TM::GameState::Menus ? 1 : 0);
        } else if (asked == GET_INPUTS) {
            TM::InputEventBuffer@ events = game.get_InputEvents();
            const string text = events.ToCommandsText();
            client.Write(int(text.Length));
            client.Write(text);
        } else {
            Drop("message " + asked + " means nothing");  // what follows it cannot be read either
        }
    }

    private void Press(SimulationManager@ game)
    {
        bool left = client.ReadUint8() != 0;
        bool right = client.ReadUint8() != 0;
        bool gas = client.ReadUint8() != 0;
        bool brake = client.ReadUint8() != 0;
        if (game.InRace) {
            game.SetInputState(InputType::Left, left ? 1 : 0);
            game.SetInputState(InputType::Right, right ? 1 : 0);
            game.SetInputState(InputType::Up, gas ? 1 : 0);
            game.SetInputState(InputType::Down, brake ? 1 : 0);
        }
    }
}

Link link;

// Called by TMInterface.

PluginInfo@ GetPluginInfo()
{
    PluginInfo info;
    info.Name = "tm_torchrl link";
    info.Author = "tm_torchrl";
    info.Version = "1.0";
    info.Description = "Lets tm_torchrl drive the game over TCP";
    return info;
}

void OnStartCommandsDone(int from, int to, const string &in line, const array<string> &in arguments)
{
    link.Open(int(GetVariableDouble("custom_port")));
}

void Main()
{
    RegisterVariable("custom_port", DEFAULT_PORT);
    // The start command sets custom_port only after plugins have started: open the port after it in the queue.
    RegisterCustomCommand("tm_torchrl_open", "Opens the port of tm_torchrl", OnStartCommandsDone);
    CommandList list;
    list.Content = "tm_torchrl_open";
    list.Process();
}

void Render()
{
    link.TakeNewClient();
    link.Greet();
    link.TellPicture();
}

void OnRunStep(SimulationManager@ game)
{
    link.TellStep(game);
}

void OnCheckpointCountChanged(SimulationManager@ game, int current, int target)
{
    link.TellCount(CHECKPOINT, current, target);
}

void OnLapCountChanged(SimulationManager@ game, int current, int target)
{
    link.TellCount(LAP, current, target);
}

void OnDisabled()
{
    link.Close();
}
